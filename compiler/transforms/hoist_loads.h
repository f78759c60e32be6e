// Moves what is the same in every turn of a loop in front of it.
//
// Before: a loop over query tiles that loads its key tile anew each turn. After: one load ahead of the loop.
#pragma once

#include "compiler/dialect/dialects.h"
#include "mlir/IR/BuiltinOps.h"

namespace weft {

void hoistLoads(mlir::ModuleOp module);

}  // namespace weft
