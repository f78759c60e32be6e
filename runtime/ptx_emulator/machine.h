// One CTA of a kernel: warps of 32 lanes, shared memory, and everything that is checked while they run.
#pragma once

#include <array>
#include <deque>
#include <string>
#include <vector>

#include "runtime/ptx_emulator/emulator.h"
#include "runtime/ptx_emulator/program.h"

namespace weft::ptx {

using Lanes = std::array<uint64_t, 32>;

/// A byte of shared memory and who touched it since the last barrier.
struct SharedByte {
  uint8_t value = 0;
  bool defined = false;
  bool pending = false;       ///< a cp.async is under way
  int16_t writer = -1;        ///< warp
  int16_t reader = -1;        ///< warp; many: -2
  int32_t writeEpoch = -1, readEpoch = -1;
  int64_t writeStep = -1;     ///< instruction count of the writing warp
};

class Block;

class Warp {
 public:
  Warp(Block &block, int number, int lanes);

  Block &block;
  const int number;
  uint32_t alive;                    ///< lanes that have not returned
  /// Lanes that run together. A branch that splits them leaves them waiting at its join and puts both ways on top.
  struct Path { int pc, join; uint32_t lanes; };
  std::vector<Path> paths;
  bool waiting = false;              ///< at a barrier
  int64_t steps = 0;
  std::vector<Lanes> registers;
  std::vector<uint32_t> defined;     ///< a bit a lane

  /// Executes until the warp waits or has returned.
  void run();

  // For handlers
  const Instruction *current = nullptr;
  const Lanes &read(const Operand &operand, uint32_t lanes);
  Lanes &write(const Operand &operand, uint32_t lanes);
  [[noreturn]] void fail(const std::string &what, int lane) const;
  uint64_t address(const Operand &operand, int lane, const Lanes *base) const { return operand.value + (base ? (*base)[lane] : 0); }
  const Lanes *base(const Operand &operand, uint32_t lanes) {
    return operand.index >= 0 ? &read({Operand::Kind::Register, operand.index, 0}, lanes) : nullptr;
  }
  void branch(int target, uint32_t lanes);
  void leave(uint32_t lanes);

  struct Copy { int lane; uint64_t to; int bytes; uint8_t data[16]; };
  std::vector<Copy> open;                  ///< cp.async since the last commit
  std::deque<std::vector<Copy>> groups;    ///< committed, not waited for

 private:
  std::array<Lanes, 8> immediates;
  int nextImmediate = 0;
};

class Block {
 public:
  Block(const Kernel &kernel, const Launch &launch, int64_t index, Report &report, std::vector<SharedByte> &shared);
  void run();

  const Kernel &kernel;
  const Launch &launch;
  const int64_t index;
  Report &report;
  std::vector<SharedByte> &shared;
  std::vector<Warp> warps;
  int32_t epoch = 0;   ///< barriers passed

  /// Host address of `bytes` at a global address, or a failure of `warp`.
  uint8_t *global(const Warp &warp, int lane, uint64_t address, int bytes);
  void checkShared(const Warp &warp, int lane, uint64_t address, int bytes);
  uint64_t readShared(const Warp &warp, int lane, uint64_t address, int bytes);
  /// `value` null: marks the bytes as being copied to.
  void writeShared(const Warp &warp, int lane, uint64_t address, int bytes, const void *value);
  void deliver(const Warp &warp, const Warp::Copy &copy);

 private:
  const MemoryRange *last = nullptr;
};

}  // namespace weft::ptx
