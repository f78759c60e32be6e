// The 16 barriers of a block. Semantics: PTX ISA manual, "bar, barrier".
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "runtime/ptx_emulator/clocks.h"

namespace weft::ptx {

class Warp;

class NamedBarriers {
 public:
  /// A whole warp comes to barrier `id` of `threads` threads, 0: all of the block; `stays`: until all have come.
  void arrive(Warp &warp, uint64_t id, uint64_t threads, bool stays);
  /// For who waits for ever.
  std::string describe(uint64_t id, const Warp &waiter) const;

 private:
  struct Barrier {
    int expected = 0;  ///< warps
    bool whole = false;
    uint32_t arrived = 0, staying = 0;  ///< a bit a warp
    Clock gathered;                     ///< what those did that have come
  };
  std::array<Barrier, 16> all;
};

}  // namespace weft::ptx
