// Walks what a value is made of, operands before what uses them and each once: chains of lets can be as long as a text,
// so the path is kept beside the stack.
#pragma once

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "mlir/IR/Operation.h"
#include "mlir/IR/Value.h"

namespace weft {

/// Calls `visit` for `root` and the values below it that are not `known`; after the call each must be. Block arguments
/// are no concern of it: they are known, or `visit` takes them.
template <class Known, class Visit>
void operandsFirst(mlir::Value root, Known known, Visit visit) {
  llvm::SmallVector<mlir::Value> path{root};
  while (!path.empty()) {
    mlir::Value value = path.back();
    if (known(value)) {
      path.pop_back();
      continue;
    }
    const size_t before = path.size();
    if (mlir::Operation *op = value.getDefiningOp())
      for (mlir::Value operand : llvm::reverse(op->getOperands()))
        if (!known(operand)) path.push_back(operand);
    if (path.size() > before) continue;
    visit(value);
    path.pop_back();
  }
}

}  // namespace weft
