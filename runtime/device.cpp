#include "runtime/device.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "runtime/cuda/driver.h"

namespace weft {
namespace {

/// Compute capability, 10 times major and minor, and KiB of shared memory a block may opt in to.
constexpr struct {
  int capability, sharedKiB;
} architectures[] = {{80, 163},  {86, 99},   {87, 163},  {89, 99},  {90, 227},
                     {100, 227}, {103, 227}, {110, 227}, {120, 99}, {121, 99}};

constexpr int emulatedByDefault = 80;

}  // namespace

DeviceLimits limitsOfArchitecture(int major, int minor) {
  int kiB = std::numeric_limits<int>::max();
  for (const auto &known : architectures) {
    if (known.capability == 10 * major + minor) {
      kiB = known.sharedKiB;
      break;
    }
    kiB = std::min(kiB, known.sharedKiB);
  }
  return {int64_t{1024} * kiB, std::numeric_limits<int32_t>::max(), 1024, 65536};
}

int capabilityOf(const Device &device) {
  if (device.kind == Device::Kind::Cpu) return 0;
  if (device.kind == Device::Kind::Cuda) return cuda::capability(device.index);
  return device.index ? device.index : emulatedByDefault;
}

DeviceLimits limitsOf(const Device &device) {
  constexpr int most = std::numeric_limits<int>::max();
  constexpr int64_t any = std::numeric_limits<int64_t>::max();
  if (device.kind == Device::Kind::Cpu) return {any, any, most, most};
  const int capability = capabilityOf(device);
  return limitsOfArchitecture(capability / 10, capability % 10);
}

Device parseDevice(const std::string &name) {
  if (name == "cpu") return {Device::Kind::Cpu, 0};
  if (name == "ptx-emulator") return {Device::Kind::PtxEmulator, 0};
  if (const std::string prefix = "ptx-emulator:"; name.rfind(prefix, 0) == 0) {
    std::string all;
    for (const auto &known : architectures) {
      const std::string own = "sm_" + std::to_string(known.capability);
      if (name == prefix + own)
        return {Device::Kind::PtxEmulator, known.capability == emulatedByDefault ? 0 : known.capability};
      all += (all.empty() ? "" : ", ") + own;
    }
    throw std::runtime_error("expected ptx-emulator:A with A one of " + all + ", got '" + name + "'");
  }
  if (name == "cuda") return {Device::Kind::Cuda, 0};
  if (name.rfind("cuda:", 0) == 0 && name.size() > 5 && name.size() < 8 &&
      name.find_first_not_of("0123456789", 5) == std::string::npos)
    return {Device::Kind::Cuda, std::stoi(name.substr(5))};
  throw std::runtime_error("expected device cpu, cuda, cuda:N, ptx-emulator or ptx-emulator:sm_80, got '" + name + "'");
}

std::string name(const Device &device) {
  if (device.kind == Device::Kind::Cpu) return "cpu";
  if (device.kind == Device::Kind::PtxEmulator)
    return device.index ? "ptx-emulator:sm_" + std::to_string(device.index) : "ptx-emulator";
  return "cuda:" + std::to_string(device.index);
}

std::string targetOf(const Device &device) {
  if (device.kind == Device::Kind::Cpu) return "host";
  if (const int own = capabilityOf(device); own < 80)
    throw std::runtime_error("expected a GPU of compute capability 8.0 or later, got " + std::to_string(own / 10) +
                             "." + std::to_string(own % 10));
  return "sm_80";
}

std::string architectureOf(const Device &device) {
  return device.kind == Device::Kind::Cpu ? "host" : "sm_" + std::to_string(capabilityOf(device));
}

EmulatorReport &EmulatorReport::operator+=(const EmulatorReport &other) {
  instructions += other.instructions;
  mma += other.mma;
  ldmatrix += other.ldmatrix;
  barriers += other.barriers;
  sharedBytes += other.sharedBytes;
  globalBytes += other.globalBytes;
  sharedAccesses += other.sharedAccesses;
  bankConflicts += other.bankConflicts;
  return *this;
}

}  // namespace weft
