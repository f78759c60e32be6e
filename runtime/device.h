// Devices kernels run on, and what a launch needs beside its arguments.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace weft {

struct Device {
  enum class Kind { Cpu, PtxEmulator, Cuda } kind = Kind::Cpu;
  /// Of the GPU. Emulator: the architecture it stands for, 89 for sm_89; 0: sm_80.
  int index = 0;

  bool operator==(const Device &) const = default;
};

/// "cpu", "ptx-emulator", "ptx-emulator:sm_89", "cuda" or "cuda:1". Throws std::runtime_error that says what is known.
Device parseDevice(const std::string &name);
std::string name(const Device &device);

/// What one launch may ask of a GPU.
struct DeviceLimits {
  int64_t sharedBytesPerBlock = 0;  ///< static and dynamic together, where a kernel opts in
  int64_t maxGridX = 0;             ///< blocks
  int maxThreadsPerBlock = 0;
  int registersPerBlock = 0;  ///< of 32 bits
};

/// 10 times major and minor: 89 for compute capability 8.9. Emulator: of the GPU it stands for; CPU: 0. Throws
/// std::runtime_error where there is no such GPU.
int capabilityOf(const Device &device);
/// Of a compute capability (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"). One that is
/// not known has the least of all later than 8.0.
DeviceLimits limitsOfArchitecture(int major, int minor);
/// A CPU limits nothing. Throws std::runtime_error where there is no such GPU.
DeviceLimits limitsOf(const Device &device);

/// What to generate code for: "host", or "sm_80" for every GPU, the emulator among them: this PTX runs on all later
/// ones, whether or not LLVM has heard of them; "sm_90a" where WEFT_GPU asks for it and the device is one. Throws
/// std::runtime_error where there is no such GPU or it is older.
std::string targetOf(const Device &device);
/// The device itself: "host", "sm_90" for compute capability 9.0, "sm_90a" where code is for it alone. What schedules
/// are chosen for and cubins are assembled for.
std::string architectureOf(const Device &device);

/// Memory a kernel may touch: host addresses.
struct MemoryRange {
  uint64_t begin = 0;
  int64_t bytes = 0;
};

/// What the PTX emulator executed. Counts are of warp instructions, bytes of all lanes together.
struct EmulatorReport {
  int64_t instructions = 0, mma = 0, ldmatrix = 0, barriers = 0;
  int64_t sharedBytes = 0, globalBytes = 0;
  int64_t sharedAccesses = 0;  ///< shared memory passes that would be enough
  int64_t bankConflicts = 0;   ///< passes beyond these

  EmulatorReport &operator+=(const EmulatorReport &other);
};

struct LaunchContext {
  int threads = 1;                   ///< CPU and emulator: of this machine, at most
  int64_t workspaceBytes = 0;        ///< CPU: of each program (see kernel_image.h)
  void *stream = nullptr;            ///< CUDA: the stream to launch on
  std::vector<MemoryRange> memory;   ///< emulator: all that the kernel may touch
  EmulatorReport *report = nullptr;  ///< emulator: added to, where given
};

}  // namespace weft
