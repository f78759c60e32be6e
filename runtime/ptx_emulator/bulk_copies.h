// The bulk copies of one block, which the async proxy does by itself. Semantics: PTX ISA manual, "Non-tensor copy" and
// "Tensor copy".
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "runtime/ptx_emulator/clocks.h"
#include "runtime/ptx_emulator/tensor_maps.h"

namespace weft::ptx {

class Warp;

/// What lies where: bytes of shared memory in order, and those of them that global memory has.
struct BulkRegion {
  struct Row {
    int64_t offset;
    uint64_t address;
    int bytes;
  };
  uint64_t shared = 0;
  int64_t bytes = 0;
  Swizzle swizzle = Swizzle::None;
  std::vector<Row> rows;
};

class BulkCopies {
 public:
  /// What a copy to global memory does there.
  enum class Effect : uint8_t { Store, AddF32, AddF16, AddBF16 };

  /// Into shared memory; the mbarrier at `barrier` is told.
  void load(Warp &warp, int lane, const BulkRegion &region, uint64_t barrier);
  /// Out of it; the thread waits by groups.
  void store(Warp &warp, int lane, const BulkRegion &region, Effect effect);
  void commit(Warp &warp, int lane);
  /// All groups of each thread but its last `most` are done; `reading`: as far as shared memory goes.
  void wait(Warp &warp, uint32_t lanes, uint64_t most, bool reading);
  /// All that is still under way when the warps have returned.
  void finish(std::vector<Warp> &warps);

 private:
  struct Store {
    BulkRegion region;
    Effect effect;
    uint32_t number;  ///< of its warp
    std::vector<uint8_t> data;
    bool read = false, waited = false;
  };
  struct Thread {
    std::vector<Store> open;                ///< since the last commit
    std::deque<std::vector<Store>> groups;  ///< not written
  };
  struct OfWarp {
    Agent agent = 0;  ///< 0: none yet
    uint32_t stores = 0;
    std::map<int, Thread> threads;
  };
  std::map<int, OfWarp> all;  ///< by warp
  /// The last copy that each mbarrier was told of.
  struct Last {
    Warp *warp;
    int lane;
    const struct Instruction *instruction;
    Agent agent;
    uint32_t phase;
  };
  std::map<uint64_t, Last> loads;

  static void wait(Warp &warp, int lane, Thread &thread, uint64_t most, bool reading);
  static void read(const Warp &warp, Store &own);
  static void write(const Warp &warp, int lane, Store &own);
};

}  // namespace weft::ptx
