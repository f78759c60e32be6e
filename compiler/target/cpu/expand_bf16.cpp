#include "compiler/target/cpu/expand_bf16.h"

#include "compiler/internal_error.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/WalkPatternRewriteDriver.h"

namespace weft::cpu {

void expandBf16(mlir::ModuleOp module) {
  mlir::RewritePatternSet patterns(module.getContext());
  mlir::arith::populateExpandBFloat16Patterns(patterns);
  mlir::walkAndApplyPatterns(module, std::move(patterns));
  module.walk([](mlir::arith::TruncFOp op) {
    internalCheck(!mlir::getElementTypeOrSelf(op.getType()).isBF16(), "expand_bf16", "a rounding to bf16 is left");
  });
}

}  // namespace weft::cpu
