// exp as a polynomial, the way this CPU scales by powers of two best.
//
// Before: math.exp on f32 or vectors of it. After: none. Cody-Waite reduction by ln 2 and the Cephes
// polynomial, 1 ulp; results below the least normal number are zero (or denormal with AVX-512).
#pragma once

#include "compiler/target/emitter.h"
#include "mlir/IR/BuiltinOps.h"

namespace weft::target {

void expandExp(mlir::ModuleOp module, const Machine &machine);

}  // namespace weft::target
