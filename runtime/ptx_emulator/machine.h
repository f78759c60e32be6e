// One CTA of a kernel: warps of 32 lanes, shared memory, barriers, and everything that is checked while they run.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/ptx_emulator/bulk_copies.h"
#include "runtime/ptx_emulator/emulator.h"
#include "runtime/ptx_emulator/global_races.h"
#include "runtime/ptx_emulator/mbarriers.h"
#include "runtime/ptx_emulator/named_barriers.h"
#include "runtime/ptx_emulator/program.h"
#include "runtime/ptx_emulator/shared_memory.h"
#include "runtime/ptx_emulator/warpgroups.h"

namespace weft::ptx {

std::string hex(uint64_t value);

class Block;

class Warp {
 public:
  Warp(Block &block, int number, int lanes);

  Block &block;
  const int number;
  uint32_t alive;  ///< lanes that have not returned
  /// Lanes that run together. A branch that splits them leaves them waiting at its join and puts both ways on top.
  struct Path {
    int pc, join;
    uint32_t lanes;
  };
  std::vector<Path> paths;
  /// What it waits for. An mbarrier: it has polled one in vain.
  enum class Wait : uint8_t { No, Barrier, Mbarrier, Warpgroup, Registers } wait = Wait::No;
  bool ready = false;      ///< among those that run
  uint64_t waitPlace = 0;  ///< number of the barrier, address of the mbarrier, count of registers
  std::vector<Lanes> registers;
  std::vector<uint32_t> defined;                ///< a bit a lane
  std::unique_ptr<RegistersInFlight> inFlight;  ///< of kernels that have wgmma

  /// Executes until the warp waits or has returned, or `most` instructions.
  void run(int64_t most);
  /// Others come first.
  void yield() { stepsLeft = 0; }

  // For handlers
  const Instruction *current = nullptr;
  const Lanes &read(const Operand &operand, uint32_t lanes);
  Lanes &write(const Operand &operand, uint32_t lanes);
  int bitsOf(const Operand &own) const;  ///< of a register
  [[noreturn]] void fail(const std::string &what, int lane) const;
  void branch(int target, uint32_t lanes);
  void leave(uint32_t lanes);

  /// A cp.async: what is to be read from where, and, `late`, not before it is waited for.
  struct Copy {
    int lane;
    uint64_t to, from;
    int bytes, read;
    bool late;
    uint8_t data[16];
  };
  std::vector<Copy> open;                ///< cp.async since the last commit
  std::deque<std::vector<Copy>> groups;  ///< committed, not waited for

 private:
  int64_t stepsLeft = 0;  ///< of this turn

  void noteWrite(int index);
  [[noreturn]] void failRead(int index, uint32_t missing) const;
};

/// What all blocks of a launch share.
struct Progress {
  std::atomic<int64_t> stepsLeft;  ///< of all warps
  GlobalRaces races;
};

class Block {
 public:
  Block(const Kernel &kernel, const Launch &launch, int64_t index, Report &report, SharedMemory &shared,
        Progress &progress);
  ~Block() { progress.stepsLeft += allowance; }
  void run();
  /// The warp waits no more.
  void wake(Warp &warp);

  const Kernel &kernel;
  const Launch &launch;
  const int64_t index;
  Report &report;
  SharedMemory &shared;
  std::vector<Warp> warps;
  /// Something that happens by itself, on behalf of the instruction that `warp` executes: at any time, by the seed;
  /// at once without one.
  void later(Warp &warp, std::function<void()> what);

  NamedBarriers barriers;
  Mbarriers mbarriers;
  BulkCopies bulk;
  /// What setmaxnreg hands around. 0 of a thread: not known.
  struct {
    int perThread = 0;
    int64_t free = 0;
  } registers;
  Warpgroup &warpgroupOf(const Warp &warp);
  uint64_t events = 0;  ///< counts what a warp that polls may wait for

  /// Host address of `bytes` at a global address, or a failure of `warp`.
  uint8_t *global(const Warp &warp, int lane, uint64_t address, int bytes, GlobalRaces::Access access);
  /// Fails where global() would; touches nothing.
  void checkGlobal(const Warp &warp, int lane, uint64_t address, int bytes);
  void storeGlobal(const Warp &warp, int lane, uint64_t address, int bytes, const void *value);
  /// Counts the passes over shared memory that `width` bytes a lane take.
  void countBanks(const Lanes &addresses, uint32_t lanes, int width);
  /// One more instruction of `warp`, or a failure where the launch has used up its steps.
  void step(const Warp &warp) {
    if (--allowance < 0) moreSteps(warp);
  }
  /// From 0 to `below` - 1, by the launch's seed; 0 where it is 0.
  uint32_t drawn(uint32_t below);

 private:
  Progress &progress;
  int64_t allowance = 0;  ///< of steps, taken from the launch's
  uint64_t random;
  uint64_t eventsBefore = 0;  ///< when those that poll were woken
  int wokenInVain = 0;        ///< times since then
  size_t lastRange = 0;
  std::vector<Warp *> ready;  ///< by number
  struct Later {
    Warp *warp;
    const Instruction *instruction;
    std::function<void()> what;
  };
  std::vector<Later> pending;
  std::vector<std::unique_ptr<Warpgroup>> warpgroups;

  /// One of those that are pending; false: there is none.
  bool happen();
  /// Those that poll see that nothing has come: as long as one of them goes on to something else.
  bool wakePolling();
  std::string whatFor(const Warp &warp) const;
  [[noreturn]] void failDeadlock() const;
  void checkEnd();
  uint8_t *find(const Warp &warp, int lane, uint64_t address, int bytes);
  void note(const Warp &warp, int lane, uint64_t address, int bytes, GlobalRaces::Access access);
  void moreSteps(const Warp &warp);
};

}  // namespace weft::ptx
