// Decides where a GPU keeps each operand of a product, and how far ahead of its use it is fetched.
//
// Before: tile.load without a place. After: each has `place`: "stream" (changes with every turn of a loop over kept
// tiles: shared memory, `stages` tiles of it, copied that many turns less one ahead), "shared" (copied where it
// stands) or "global" (read once, where it is, by tile.row_dot).
#pragma once

#include "compiler/dialect/dialects.h"
#include "mlir/IR/BuiltinOps.h"

namespace weft {

void placeOperands(mlir::ModuleOp module, int stages);

}  // namespace weft
