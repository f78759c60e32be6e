// Shared memory of one block, and who touched each byte of it since the last barrier.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/ptx_emulator/emulator.h"

namespace weft::ptx {

class Warp;

class SharedMemory {
 public:
  /// Forgets all: what a block finds.
  void reset(int64_t bytes);
  int64_t size() const { return static_cast<int64_t>(values.size()); }

  uint64_t read(const Warp &warp, int lane, uint64_t address, int bytes);
  /// Each store instruction begins with this: no two of its lanes may write a byte.
  void beginStore();
  void write(const Warp &warp, int lane, uint64_t address, int bytes, const void *value);
  /// A cp.async into the bytes is under way, then done: its own thread may read them, others of the warp after a
  /// bar.warp.sync, others of the block after a barrier.
  void expect(const Warp &warp, int lane, uint64_t address, int bytes);
  void deliver(const Warp &warp, int lane, uint64_t address, int bytes, const void *value);

  void barrier();
  void warpBarrier(int warp);

 private:
  enum State : uint8_t {
    Defined = 128,
    Pending = 64,
    Arrived = 32,
    Lane = 31
  };  ///< Arrived: by a cp.async of this lane
  static constexpr uint32_t many = 63;
  struct Range {
    int warp;
    uint64_t address;
    int bytes;
  };

  std::vector<uint8_t> values, states;
  /// epoch << 6 | warp of the last write and read.
  std::vector<uint32_t> writers, readers;
  std::vector<uint32_t> stores;  ///< which store instruction wrote it
  std::vector<Range> arrived;    ///< not yet visible to all
  uint32_t epoch = 1, storeNumber = 0;

  void check(const Warp &warp, int lane, uint64_t address, int bytes) const;
  void claim(const Warp &warp, int lane, uint64_t address, int bytes);
};

}  // namespace weft::ptx
