// The greater or lesser of two floats in one instruction.
//
// Before: a comparison with a constant and a choice, written so that a NaN comes through; CPUs do that in one
// instruction. After: arith.maximumf and arith.minimumf, max.NaN and min.NaN of a GPU. A bound that may be a NaN counts
// for nothing then: its choice stays. Test: fold_bounds.mlir
#include "compiler/passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Matchers.h"

namespace weft {

#define GEN_PASS_DEF_FOLDBOUNDS
#include "compiler/Passes.h.inc"

namespace {

namespace arith = mlir::arith;

/// select(x < bound, bound, x), or with >.
mlir::Value bounded(arith::SelectOp choice) {
  auto beyond = choice.getCondition().getDefiningOp<arith::CmpFOp>();
  if (!beyond || !choice.getType().isF32()) return {};
  mlir::Value x = beyond.getLhs(), bound = beyond.getRhs();
  if (choice.getTrueValue() != bound || choice.getFalseValue() != x) return {};
  llvm::APFloat known(0.0F);
  if (!mlir::matchPattern(bound, mlir::m_ConstantFloat(&known)) || known.isNaN()) return {};
  mlir::OpBuilder b(choice);
  switch (beyond.getPredicate()) {
    case arith::CmpFPredicate::OLT: return arith::MaximumFOp::create(b, choice.getLoc(), x, bound);
    case arith::CmpFPredicate::OGT: return arith::MinimumFOp::create(b, choice.getLoc(), x, bound);
    default: return {};
  }
}

struct FoldBounds : impl::FoldBoundsBase<FoldBounds> {
  void runOnOperation() override {
    getOperation().walk([](arith::SelectOp choice) {
      mlir::Value value = bounded(choice);
      if (!value) return;
      choice.getResult().replaceAllUsesWith(value);
      choice.erase();
    });
  }
};

}  // namespace
}  // namespace weft
