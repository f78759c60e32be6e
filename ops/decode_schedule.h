// How the kernels of decoding are cut up, and which variants can be decoded.
#pragma once

#include <map>
#include <string>

#include "compiler/compiler.h"
#include "runtime/device.h"

namespace weft::ops {

/// The schedule of these calls; with pages, of `page` tokens each (0: without).
Schedule decodeSchedule(const Variant &variant, ElementType type, const std::map<std::string, int64_t> &headDims,
                        const Device &device, int64_t page);
/// Throws c10::Error where each query of the variant has a list of keys of its own: it cannot be decoded so.
void demandSharedKeys(const Variant &variant, const char *operation);

}  // namespace weft::ops
