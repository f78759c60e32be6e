// Conversions to and from bf16 as arithmetic on ints, for CPUs without instructions for them: LLVM would call a
// function of the C compiler's library for each element, which older ones do not have. IR before: arith.truncf %x :
// vector<16xf32> to vector<16xbf16>    after: arith.bitcast, shifts, a rounding to even
#pragma once

#include "mlir/IR/BuiltinOps.h"

namespace weft::cpu {

void expandBf16(mlir::ModuleOp module);

}  // namespace weft::cpu
