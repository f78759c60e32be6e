// Derives the pairwise program of the backward pass, in reverse mode, from `@forward`.
//
// Before: weft.pairwise @forward (and @sink). After: also @backward (and @sink_backward).
// Source of the formulas: for p = m w exp(s - l), o = sum g p v and cotangent do,
//   ds = p (g do.v - delta)   dw = m exp(s - l) (g do.v - delta)   dg = p do.v
//   dc = -exp(c - l) delta    delta = do.o
// and for the other normalisers p = m w sigmoid(s) or m w s without the delta term.
#pragma once

#include "mlir/IR/BuiltinOps.h"

namespace weft {

void differentiate(mlir::ModuleOp module);

}  // namespace weft
