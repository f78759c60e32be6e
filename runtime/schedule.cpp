#include "runtime/schedule.h"

#include <cstdlib>

#include "compiler/default_schedule.h"

namespace weft {

Schedule deviceSchedule(const Variant &variant, ElementType type, const std::map<std::string, int64_t> &dims,
                        const Device &device, bool backward) {
  if (device.kind == Device::Kind::Cpu) return defaultSchedule(variant, architectureOf(device), dims, backward);
  return defaultSchedule(variant, architectureOf(device), dims, backward, type, limitsOf(device).sharedBytesPerBlock);
}

Schedule deviceSchedule(const Variant &variant, ElementType type, const std::map<std::string, int64_t> &dims,
                        const std::string &architecture, bool backward) {
  if (!isGpu(architecture)) return defaultSchedule(variant, architecture, dims, backward);
  const int capability = std::atoi(architecture.c_str() + 3);  // behind "sm_"
  return defaultSchedule(variant, architecture, dims, backward, type,
                         limitsOfArchitecture(capability / 10, capability % 10).sharedBytesPerBlock);
}

}  // namespace weft
