#include "compiler/transforms/hoist_loads.h"

#include "llvm/ADT/STLExtras.h"

namespace weft {

void hoistLoads(mlir::ModuleOp module) {
  // Post-order: what leaves an inner loop can leave the outer one too.
  module.walk([](tile::ForOp loop) {
    mlir::Block &body = loop.getBody().front();
    for (mlir::Operation &op : llvm::make_early_inc_range(body.without_terminator())) {
      if (!mlir::isa<tile::LoadOp, tile::LoadRowsOp, mlir::arith::ConstantOp>(op)) continue;
      const bool outside =
          llvm::all_of(op.getOperands(), [&](mlir::Value operand) { return operand.getParentBlock() != &body; });
      if (outside) op.moveBefore(loop);
    }
  });
}

}  // namespace weft
