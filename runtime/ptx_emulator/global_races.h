// Races between the blocks of one launch in global memory: two of them touch the same bytes, at least one by a plain
// store, and no barrier joins blocks. A store of what is there already is none: it makes no difference who comes first.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "runtime/device.h"

namespace weft::ptx {

class GlobalRaces {
 public:
  /// A longer range stands for memory that its owner did not tell apart: no races are looked for in it.
  static constexpr int64_t largestTracked = int64_t{1} << 36;
  enum Access { Read, Write, Atomic };

  explicit GlobalRaces(const std::vector<MemoryRange> &memory);

  /// Notes that `block` touches `bytes` at `address` of memory range `range`; what is wrong with it, empty if nothing.
  /// Blocks may run at once: a race between such may then be seen in one run and missed in another.
  std::string note(Access access, int64_t block, size_t range, uint64_t address, int bytes);

 private:
  /// Of 4 bytes, for each kind of access: block + 1 in the upper bits (0: none), the bytes in the lower 4. Of several
  /// blocks only that is kept: each touched the whole word, or who touched which bytes is not known.
  struct Word {
    uint32_t by[3];
  };
  static constexpr uint32_t several = 0xFFFFFFE, unknown = 0xFFFFFFF;
  struct Free {
    void operator()(Word *words) const { std::free(words); }
  };
  struct Range {
    uint64_t begin;
    std::unique_ptr<Word[], Free> words;
  };
  std::vector<Range> ranges;
};

}  // namespace weft::ptx
