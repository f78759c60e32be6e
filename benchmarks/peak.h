// The roof that results are shown under, and the peak that utilisation is a share of.
#pragma once

#include <optional>

#include <torch/types.h>

#include "compiler/kernel_image.h"
#include "runtime/roof.h"

namespace weft::bench {

/// Of products of `type` on torch's threads (see runtime/roof.h). On a GPU without a data sheet known here the rate of
/// torch's own matrix product, which says so: no roof, only a yardstick. None on the emulator.
std::optional<Roof> peakOf(const Device &device, ElementType type);
/// For after something was faster than the peak: measured anew, and at least `achieved`.
Roof raisedPeak(const Device &device, ElementType type, double achieved);

}  // namespace weft::bench
