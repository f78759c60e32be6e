// Tiles that are consumed have no other use, so that the result may lie where they lay: on a CPU it does.
//
// The accumulator of a tile.dot, the tile of a tile.scale or tile.scale_rows, and what a loop starts with: each is used
// once, beside where it is made, not in every turn of a loop. Leaves the IR as it is. Test: verify_consumed.mlir
#include "compiler/passes.h"

namespace weft {

#define GEN_PASS_DEF_VERIFYCONSUMED
#include "compiler/Passes.h.inc"

namespace {

llvm::SmallVector<mlir::Value> consumedBy(mlir::Operation *op) {
  if (auto dot = mlir::dyn_cast<tile::DotOp>(op)) return {dot.getAcc()};
  if (mlir::isa<tile::ScaleOp, tile::ScaleRowsOp>(op)) return {op->getOperand(0)};
  if (auto loop = mlir::dyn_cast<tile::ForOp>(op)) return llvm::to_vector(loop.getInits());
  return {};
}

struct VerifyConsumed : impl::VerifyConsumedBase<VerifyConsumed> {
  void runOnOperation() override {
    getOperation().walk([&](mlir::Operation *op) {
      for (mlir::Value tile : consumedBy(op)) {
        if (!tile || (tile.hasOneUse() && tile.getParentBlock() == op->getBlock())) continue;
        op->emitError("a tile is consumed here that has another use, or another turn");
        signalPassFailure();
      }
    });
  }
};

}  // namespace
}  // namespace weft
