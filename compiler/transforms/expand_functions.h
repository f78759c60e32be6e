// Replaces `weft.map` by operations of `arith` and `math`.
//
// Before: tile kernels whose scalar regions apply functions of the language.
// After: no `weft.map` is left in them. sin and cos are polynomials; exp stays `math.exp`, which each
// target expands.
#pragma once

#include "mlir/IR/BuiltinOps.h"

namespace weft {

void expandFunctions(mlir::ModuleOp module);

}  // namespace weft
