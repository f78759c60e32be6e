// What this machine's CPU does at most, measured.
#pragma once

#include "compiler/kernel_image.h"
#include "runtime/roof.h"

namespace weft::cpu {

/// See arithmeticRoof and memoryRoof. Each takes part of a second.
Roof measureArithmetic(ElementType type, int threads);
Roof measureMemory(int threads);

}  // namespace weft::cpu
