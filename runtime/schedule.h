// What runs well without tuning, on a device.
#pragma once

#include <map>
#include <string>

#include "compiler/compiler.h"
#include "runtime/device.h"

namespace weft {

/// The schedule of one direction's kernels, which fits the device. `dims`: sizes of the dims that rows end in. Throws
/// std::runtime_error where there is no such GPU.
Schedule deviceSchedule(const Variant &variant, ElementType type, const std::map<std::string, int64_t> &dims,
                        const Device &device, bool backward);
/// The same for any device of an architecture: "host", a CPU that LLVM knows, "sm_90a".
Schedule deviceSchedule(const Variant &variant, ElementType type, const std::map<std::string, int64_t> &dims,
                        const std::string &architecture, bool backward);

}  // namespace weft
