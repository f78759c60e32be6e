// What a device could do at most: the roof over the speed of its kernels. On a CPU it is measured, with generated
// chains of arithmetic that need no memory, and with reads of more memory than caches hold; a GPU's stands in its data
// sheet.
#pragma once

#include <optional>
#include <string>

#include "compiler/kernel_image.h"
#include "runtime/device.h"

namespace weft {

struct Roof {
  double rate = 0;  ///< FLOP/s, or bytes/s
  std::string of;   ///< what reaches it, and how that is known
};

/// FLOP/s of products of `type` with sums of f32, by whatever instructions the CPU that kernels are compiled for
/// (WEFT_CPU) has for them, on `threads` threads at once, by the time that they have run: what else runs on the machine
/// does not lower it. Takes a third of a second, then is known to the process. None for a GPU whose data sheet is not
/// known here, and for the emulator. Thread-safe.
std::optional<Roof> arithmeticRoof(const Device &device, ElementType type, int threads);
/// The same, measured anew on a CPU: the higher one of both is what is known from now on.
std::optional<Roof> arithmeticRoofAgain(const Device &device, ElementType type, int threads);

/// Bytes/s of reading, likewise; of these the median.
std::optional<Roof> memoryRoof(const Device &device, int threads);

}  // namespace weft
