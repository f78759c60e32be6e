// Marks int arithmetic of the pairwise programs that cannot leave 32 bits, whatever the inputs hold: everything made of
// positions, dims and constants alone, as a rule. The rest saturates, which costs a few instructions a pair.
// IR before: weft.map "Sub" %i, %j    after: weft.map "Sub" exact %i, %j
#pragma once

#include "compiler/dialect/dialects.h"

namespace weft {

void markExact(mlir::ModuleOp module);

}  // namespace weft
