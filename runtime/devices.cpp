// The devices there are, and what follows for any of them.
#include <algorithm>
#include <iterator>
#include <limits>
#include <stdexcept>

#include "runtime/cpu/backend.h"
#include "runtime/cuda/backend.h"
#include "runtime/device_backend.h"
#include "runtime/environment.h"
#include "runtime/ptx_emulator/backend.h"

namespace weft {

/// By Device::Kind.
static constexpr const DeviceBackend &(*backends[])() = {cpu::backend, ptx::backend, cuda::backend};

const DeviceBackend &backendOf(const Device &device) { return backends[static_cast<int>(device.kind)](); }

int64_t blocksOf(const KernelImage &image, int64_t programs, int units) {
  const int64_t blocks = (programs + image.programsPerBlock - 1) / image.programsPerBlock;
  constexpr int64_t most = std::numeric_limits<int32_t>::max();
  // Blocks that take programs count them in as many bits.
  if (blocks > most)
    throw std::runtime_error("a call of " + std::to_string(blocks) + " blocks: a GPU starts at most " +
                             std::to_string(most) + " at once; split the batch");
  return image.residents ? std::min(blocks, int64_t{units} * image.residents) : blocks;
}

Device parseDevice(const std::string &name) {
  std::vector<std::string> forms;
  for (size_t kind = 0; kind < std::size(backends); ++kind) {
    const DeviceBackend &backend = backends[kind]();
    if (const auto index = backend.parse(name)) return {static_cast<Device::Kind>(kind), *index};
    for (std::string &form : backend.forms()) forms.push_back(std::move(form));
  }
  std::string all = forms[0];
  for (size_t at = 1; at < forms.size(); ++at) all += (at + 1 < forms.size() ? ", " : " or ") + forms[at];
  throw std::runtime_error("expected device " + all + ", got '" + name + "'");
}

std::string name(const Device &device) { return backendOf(device).name(device.index); }

int capabilityOf(const Device &device) { return backendOf(device).capability(device.index); }

DeviceLimits limitsOf(const Device &device) {
  constexpr int most = std::numeric_limits<int>::max();
  constexpr int64_t any = std::numeric_limits<int64_t>::max();
  const int capability = capabilityOf(device);
  return capability ? limitsOfArchitecture(capability / 10, capability % 10) : DeviceLimits{any, any, most, most};
}

std::string targetOf(const Device &device) {
  const int own = capabilityOf(device);
  if (!own) return environment::cpu();
  if (own < 80)
    throw std::runtime_error("expected a GPU of compute capability 8.0 or later, got " + std::to_string(own / 10) +
                             "." + std::to_string(own % 10));
  const std::string asked = environment::gpu();
  if (asked == "sm_90a" && own == 90) return asked;
  if (asked != "sm_90a" && asked != "sm_80")
    throw std::runtime_error("WEFT_GPU: expected sm_80 or sm_90a, got '" + asked + "'");
  return "sm_80";
}

std::string architectureOf(const Device &device) {
  const int own = capabilityOf(device);
  if (!own) return "host";
  const std::string target = targetOf(device);
  return target == "sm_80" ? "sm_" + std::to_string(own) : target;
}

std::optional<Roof> arithmeticRoof(const Device &device, ElementType type, int threads) {
  return backendOf(device).arithmeticRoof(device.index, type, threads, false);
}
std::optional<Roof> arithmeticRoofAgain(const Device &device, ElementType type, int threads) {
  return backendOf(device).arithmeticRoof(device.index, type, threads, true);
}
std::optional<Roof> memoryRoof(const Device &device, int threads) {
  return backendOf(device).memoryRoof(device.index, threads);
}

}  // namespace weft
