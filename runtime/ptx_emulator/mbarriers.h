// The mbarriers of one block: objects of 8 bytes in shared memory. Semantics: PTX ISA manual, "mbarrier".
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "runtime/ptx_emulator/clocks.h"

namespace weft::ptx {

class Warp;

struct Mbarrier {
  uint64_t address = 0;
  Agent agent = 0;           ///< of the bulk copies that it waits for
  bool live = false;         ///< between init and inval
  uint32_t phase = 0;        ///< phases completed, of earlier lives too: even where a life begins
  uint32_t expected = 0;     ///< arrivals of the next phase
  uint32_t pending = 0;      ///< arrivals of this phase still to come
  int64_t bytes = 0;         ///< the transaction count: expected and not yet there
  int underWay = 0;          ///< copies that this phase waits for
  Clock gathered, complete;  ///< what those did that arrived in this phase, and in all before it
};

class Mbarriers {
 public:
  static constexpr uint32_t mostCount = (1 << 20) - 1;

  void begin(Warp &warp, int lane, uint64_t address, uint64_t count);
  void end(Warp &warp, int lane, uint64_t address);
  /// The mbarrier at the address, or a failure.
  Mbarrier &at(const Warp &warp, int lane, uint64_t address);
  /// expect_tx.
  void expect(const Warp &warp, int lane, Mbarrier &own, uint64_t bytes);
  /// `drop`: of the arrivals of later phases too. `releases`: what the lane did is known to those that wait.
  void arrive(Warp &warp, int lane, Mbarrier &own, uint64_t count, bool drop, bool releases);
  /// cp.async.mbarrier.arrive without .noinc.
  void expectArrival(const Warp &warp, int lane, Mbarrier &own);
  /// complete_tx.
  void deliver(Warp &warp, int lane, Mbarrier &own, int64_t bytes);
  /// The phase named by a state or a parity is complete.
  static bool testState(const Warp &warp, int lane, const Mbarrier &own, uint64_t state);
  static bool testParity(const Warp &warp, int lane, const Mbarrier &own, uint64_t parity);
  static uint64_t stateOf(const Mbarrier &own) { return own.address << 32 | own.phase; }

  /// For who waits for ever.
  std::string describe(uint64_t address) const;

 private:
  std::map<uint64_t, Mbarrier> all;

  void completeIfDone(Warp &warp, int lane, Mbarrier &own);
};

}  // namespace weft::ptx
