// Conversions to and from bf16 as arithmetic on ints, for CPUs without instructions for them: LLVM would call a
// function of the C compiler's library for each element, which older ones do not have. IR before: arith.truncf %x :
// vector<16xf32> to vector<16xbf16>    after: arith.bitcast, shifts, a rounding to even
// Test: expand_bf16.mlir
#include "compiler/passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/WalkPatternRewriteDriver.h"

namespace weft {

#define GEN_PASS_DEF_EXPANDBF16
#include "compiler/Passes.h.inc"

namespace {

struct ExpandBf16 : impl::ExpandBf16Base<ExpandBf16> {
  void runOnOperation() override {
    mlir::RewritePatternSet patterns(&getContext());
    mlir::arith::populateExpandBFloat16Patterns(patterns);
    mlir::walkAndApplyPatterns(getOperation(), std::move(patterns));
    getOperation().walk([&](mlir::arith::TruncFOp op) {
      if (!mlir::getElementTypeOrSelf(op.getType()).isBF16()) return;
      op.emitError("a rounding to bf16 is left");
      signalPassFailure();
    });
  }
};

}  // namespace
}  // namespace weft
