// Executes PTX on the CPU, slowly and strictly: a device without a GPU, and a checker of generated kernels.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/device.h"

namespace weft::ptx {

using Report = EmulatorReport;

struct Launch {
  int64_t blocks = 1;
  int threads = 32;  ///< of a block
  int64_t sharedBytes = 0;
  std::vector<uint8_t> parameters;  ///< laid out as the kernel declares them
  std::vector<MemoryRange> memory;
  int capability = 80;  ///< of the device it stands for: 10 times major and minor
  /// 0: warps run one after the other, every result is the nearest one, cp.async reads at once. Else as a GPU may do
  /// it: warps take turns, cp.async reads before its wait at some time, approximations are off and tensor cores cut
  /// off, all by the seed.
  uint64_t seed = 0;
  int64_t steps = int64_t{1} << 33;  ///< at most, warp instructions of all blocks
  int64_t columns = 0;               ///< blocks along x, the others lie along y; 0: all
};

struct Kernel;

/// A parsed module. Immutable; may run from several threads at once.
class Module {
 public:
  /// Throws std::runtime_error: a malformed text, or the name of an instruction the emulator lacks.
  explicit Module(const std::string &text);
  ~Module();

  /// Runs all blocks, on up to `threads` threads of the machine. Throws std::runtime_error where the device would
  /// refuse the module or the launch (limitsOfArchitecture; an older architecture than .target), and one that names
  /// kernel, block, thread, line and instruction for: an access outside `memory` or shared memory, a misaligned access,
  /// a read of shared memory or a register never written, a read of what a cp.async has not delivered to the thread, a
  /// race between barriers, a race in `memory` between blocks, a barrier that part of a warp reaches, blocks that wait
  /// for ever, and a launch that takes more than its steps. For what sm_90a has beside these, see docs/devices.md.
  Report run(const std::string &kernel, const Launch &launch, int threads = 1) const;

 private:
  struct Kernels;
  std::unique_ptr<Kernels> kernels;
};

}  // namespace weft::ptx
