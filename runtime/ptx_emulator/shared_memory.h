// Shared memory of one block, and who touched each byte of it, in which order.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "runtime/ptx_emulator/clocks.h"
#include "runtime/ptx_emulator/emulator.h"

namespace weft::ptx {

class Warp;

/// An access by the async proxy (bulk copies, wgmma) that `lane` of `warp` has asked for.
struct AsyncAccess {
  const Warp &warp;
  int lane;
  const Clock &seen;  ///< what comes before it
  Stamp stamp;
};

class SharedMemory {
 public:
  /// Forgets all: what a block of `warps` warps finds.
  void reset(int64_t bytes, int warps);
  int64_t size() const { return static_cast<int64_t>(values.size()); }

  uint64_t read(const Warp &warp, int lane, uint64_t address, int bytes);
  /// Each store instruction begins with this: no two of its lanes may write different values to a byte.
  void beginStore();
  void write(const Warp &warp, int lane, uint64_t address, int bytes, const void *value);
  /// A cp.async into the bytes is under way, then done: its own thread may read them, others of the warp after a
  /// bar.warp.sync, others of the block after a barrier.
  void expect(const Warp &warp, int lane, uint64_t address, int bytes);
  void deliver(const Warp &warp, int lane, uint64_t address, int bytes, const void *value);
  /// The same for one that an mbarrier waits for: those may read them that know `stamp`.
  void deliver(uint64_t address, int bytes, const void *value, Stamp stamp);

  // ---- the async proxy: it sees what a thread wrote once that thread has executed fence.proxy.async
  void readAsync(const AsyncAccess &by, uint64_t address, int bytes);
  void expectAsync(const AsyncAccess &by, uint64_t address, int bytes);
  /// As they are, with nothing noted: of bytes that were checked before.
  const uint8_t *raw(uint64_t address) const { return &values[address]; }
  void fenceAsync(int warp, uint32_t lanes);

  // ---- mbarriers: 8 bytes that nothing else may touch
  void beginMbarrier(const Warp &warp, int lane, uint64_t address);
  void endMbarrier(const Warp &warp, uint64_t address);
  /// The mbarrier's beginning comes before what the warp does now.
  bool knowsMbarrier(const Warp &warp, int lane, uint64_t address) const;

  // ---- order
  /// A barrier: what `lanes` did so far is known to whoever acquires `to`.
  void release(int warp, uint32_t lanes, Clock &to);
  /// Where it is not all lanes, the others of the warp know nothing of it until a bar.warp.sync or a barrier.
  void acquire(int warp, uint32_t lanes, const Clock &from);
  /// The warp knows what `agent` did until then.
  void learn(int warp, Agent agent, uint32_t time);
  void warpBarrier(int warp);
  /// What comes before what the warp, or the lane, does now.
  const Clock &clock(int warp) const { return clocks[warp]; }
  Clock clock(int warp, int lane) const;
  /// One more agent of the async proxy. `name`: for errors, "a bulk copy ...". Nothing is left of mostAgents: fails.
  Agent newAgent(const Warp &warp, int lane, const std::string &name);
  Agent agents() const { return static_cast<Agent>(warps + names.size()); }

 private:
  /// Arrived: by a cp.async of this lane. Where Pending: why the byte cannot be read.
  static constexpr uint8_t Defined = 128, Pending = 64, Arrived = 32, Lane = 31;
  static constexpr uint8_t CpAsync = 0, BulkCopy = 1, Mbarrier = 2;
  /// Of `readers`: the rest is the number of a set of stamps, none of which is ordered before another.
  static constexpr Stamp isSet = 1u << 31;
  struct Range {
    int warp, lane;
    uint64_t address;
    int bytes;
  };
  struct Fence {
    uint32_t time, lanes;
  };
  /// What only some lanes of a warp know.
  struct Partly {
    uint32_t lanes;
    Clock known;
  };

  std::vector<uint8_t> values, states;
  std::vector<Stamp> writers, readers;
  std::vector<uint32_t> stores;  ///< which store instruction wrote it
  std::vector<Range> arrived;    ///< not yet visible to all
  uint32_t storeNumber = 0;

  size_t warps = 0;
  std::vector<Clock> clocks;                    ///< of each warp
  std::vector<std::vector<Partly>> partly;      ///< of each warp, beside its clock
  std::vector<std::string> names;               ///< of the agents behind the warps
  std::vector<std::vector<Fence>> fences;       ///< of each warp, in order
  std::vector<std::vector<Stamp>> sets;         ///< of readers
  std::map<std::vector<Stamp>, Stamp> numbers;  ///< of sets
  size_t mostSets = 4096;                       ///< before the old ones are forgotten
  struct {
    Stamp before = 0, own = 0, after = 0;
    uint64_t generation = 0;
  } last;                   ///< answer of withReader
  uint64_t generation = 1;  ///< of clocks

  bool known(Stamp stamp, const Clock &seen) const { return timeOf(stamp) <= seen[agentOf(stamp)]; }
  /// The slow way, where known() says no.
  bool knownTo(const Warp &warp, int lane, Stamp stamp) const;
  void check(const Warp &warp, int lane, uint64_t address, int bytes) const;
  /// `value`: what is to be written, where several may write the same.
  void claim(const Warp &warp, int lane, uint64_t address, int bytes, const uint8_t *value = nullptr);
  [[noreturn]] void failUnreadable(const Warp &warp, int lane, uint64_t at) const;
  [[noreturn]] void failWriter(const Warp &warp, int lane, uint64_t at, const char *did) const;
  /// `own`: by a thread itself, else the async proxy for it.
  void checkReaders(const Warp &warp, int lane, uint64_t at, const Clock &seen, bool own) const;
  std::string inWords(Agent agent) const;
  Stamp withReader(Stamp before, Stamp own, const Clock &seen);
  void forgetOldSets();
  void publish(int warp, uint32_t lanes);
  void joinPartly(int warp);
  bool fenced(uint64_t at, const Clock &seen) const;
  void restart();
};

}  // namespace weft::ptx
