// Kernels of another architecture, run by an emulator of it: to see that they are right, not to be fast.
#pragma once

#include <memory>
#include <string>

#include "runtime/kernel_cache.h"

namespace weft::cpu {

/// `emulator` is run as `emulator OBJECT ENTRY` for each launch, OBJECT a file with the kernel's code. What it reads
/// and writes says tests/aarch64/driver.c. A launch has all of its memory in its context. Throws std::runtime_error.
std::shared_ptr<const LoadedKernel> loadEmulated(KernelImage image, const std::string &code,
                                                 const std::string &emulator);

}  // namespace weft::cpu
