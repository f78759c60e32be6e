// Lets the warpgroups of a block take turns at the tensor cores ("ping-pong"; Shah et al. 2024, FlashAttention-3).
//
// Before: each consuming warpgroup starts its products when their tiles are there. After: in a loop of products that it
// waits for later, it takes its turn (cta.take_turn) before the first of them and passes it on (cta.pass_turn) behind
// the last: while one warpgroup multiplies, another computes pairs. All make as many turns of a loop, and in the same
// order. Kernels of one consuming warpgroup stay as they are. Test: take_turns.mlir
#include "compiler/dialect/cta.h"
#include "compiler/passes.h"

namespace weft {

#define GEN_PASS_DEF_TAKETURNS
#include "compiler/Passes.h.inc"

namespace {

/// Products that a block starts one after another before it waits for any: the first and the last.
std::pair<cta::MmaOp, cta::MmaOp> startedTogether(mlir::Block &block) {
  cta::MmaOp first, last;
  for (mlir::Operation &op : block) {
    if (first && mlir::isa<cta::WaitMmaOp>(op)) break;
    auto product = mlir::dyn_cast<cta::MmaOp>(op);
    if (!product || !product.getAsync()) continue;
    if (!first) first = product;
    last = product;
  }
  return {first, last};
}

struct TakeTurns : impl::TakeTurnsBase<TakeTurns> {
  void runOnOperation() override {
    getOperation().walk([&](tile::KernelOp kernel) {
      auto warps = kernel->getAttrOfType<mlir::IntegerAttr>(cta::warps);
      if (!warps || warps.getInt() < 2 * cta::warpsOfGroup) return;
      kernel.walk([](cta::RolesOp roles) {
        roles.getConsumers().walk([](mlir::LoopLikeOpInterface loop) {
          auto [first, last] = startedTogether(loop.getLoopRegions()[0]->front());
          if (!first) return;
          mlir::OpBuilder builder(first);
          cta::TakeTurnOp::create(builder, first.getLoc());
          builder.setInsertionPointAfter(last);
          cta::PassTurnOp::create(builder, last.getLoc());
        });
      });
    });
  }
};

}  // namespace
}  // namespace weft
