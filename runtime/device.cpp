#include "runtime/device.h"

#include <stdexcept>

#include "runtime/cuda/driver.h"

namespace weft {

Device parseDevice(const std::string &name) {
  if (name == "cpu") return {Device::Kind::Cpu, 0};
  if (name == "ptx-emulator") return {Device::Kind::PtxEmulator, 0};
  if (name == "cuda") return {Device::Kind::Cuda, 0};
  if (name.rfind("cuda:", 0) == 0 && name.size() > 5 && name.size() < 8 && name.find_first_not_of("0123456789", 5) == std::string::npos)
    return {Device::Kind::Cuda, std::stoi(name.substr(5))};
  throw std::runtime_error("expected device cpu, cuda, cuda:N or ptx-emulator, got '" + name + "'");
}

std::string name(const Device &device) {
  if (device.kind == Device::Kind::Cpu) return "cpu";
  if (device.kind == Device::Kind::PtxEmulator) return "ptx-emulator";
  return "cuda:" + std::to_string(device.index);
}

std::string targetOf(const Device &device) {
  if (device.kind == Device::Kind::Cpu) return "host";
  if (device.kind == Device::Kind::PtxEmulator) return "sm_80";
  return cuda::architecture(device.index);
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
