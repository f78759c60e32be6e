// Functions by the approximate instructions of a GPU, a few units in the last place off.
//
// Before: math.exp, math.exp2 and math.tanh of f32, quotients marked `weft.approximate`. After: none of them, but
// ex2.approx.ftz, rcp.approx.ftz and, where rows have 16-bit types, tanh.approx. Results below the least normal number
// are zero. Test: approximate_functions.mlir
#include <numbers>

#include "compiler/passes.h"
#include "compiler/target/nvptx/inline_ptx.h"
#include "compiler/transforms/scalar_builder.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"

namespace weft {

#define GEN_PASS_DEF_APPROXIMATEFUNCTIONS
#include "compiler/Passes.h.inc"

namespace {

using mlir::Value;

namespace arith = mlir::arith;
namespace math = mlir::math;

/// Builds what stands in place of one operation.
class Approximation {
 public:
  Approximation(mlir::Operation *op, bool narrow)
      : b(op), loc(op->getLoc()), f32(b.getF32Type()), i32(b.getI32Type()), narrow(narrow) {}

  /// 2^x, within 2.06 units in the last place (over all floats on an H200).
  Value exp2(Value x) {
    // The NVVM dialect has no operation for it.
    return mlir::LLVM::CallIntrinsicOp::create(b, loc, f32, b.getStringAttr("llvm.nvvm.ex2.approx.ftz.f32"),
                                               mlir::ValueRange{x})
        .getResult(0);
  }

  /// e^x as 2^n 2^f with a whole n: ex2 of x log2(e) alone is off by the rounding of that product, up to 2^-17.
  Value exp(Value x) {
    constexpr double log2e = 1.44269502162933349609375, rest = std::numbers::log2e - log2e;
    if (narrow) return exp2(mul(x, constant(log2e)));
    constexpr double whole = 12582912;  // 1.5 * 2^23: a sum with it has no digits after the point
    x = bounded(x, arith::CmpFPredicate::OLT, -87.4);
    x = bounded(x, arith::CmpFPredicate::OGT, 88.73);
    Value shifted = fma(x, constant(log2e), constant(whole));
    Value n = sub(shifted, constant(whole));
    Value e = exp2(fma(x, constant(rest), fma(x, constant(log2e), arith::NegFOp::create(b, loc, n))));
    // 2^n as 2 * 2^(n-1), so that n = 128 does not overflow before the product does.
    Value bits = arith::BitcastOp::create(b, loc, i32, shifted);
    Value exponent =
        arith::ShLIOp::create(b, loc, arith::AddIOp::create(b, loc, bits, constantInt(126)), constantInt(23));
    return mul(arith::AddFOp::create(b, loc, e, e), arith::BitcastOp::create(b, loc, f32, exponent));
  }

  /// tanh x: near 0 the Cephes polynomial, else 1 - 2 / (e^2|x| + 1). The instruction's relative error is 2^-11 (PTX
  /// ISA), half of what rounding to bf16 costs.
  Value tanh(Value x) {
    if (narrow) return nvptx::inlinePtx(b, loc, f32, "tanh.approx.f32 $0, $1;", "=f,f", x, /*sideEffects=*/false);
    Value square = mul(x, x), p = constant(-5.70498872745e-3);
    for (double c : {2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1})
      p = fma(p, square, constant(c));
    Value near = fma(mul(p, square), x, x), size = math::AbsFOp::create(b, loc, x);
    Value e = exp2(mul(size, constant(2 * std::numbers::log2e)));
    Value far = fma(reciprocal(arith::AddFOp::create(b, loc, e, constant(1))), constant(-2), constant(1));
    // With the sign of x.
    auto bitsOf = [&](Value v) { return Value(arith::BitcastOp::create(b, loc, i32, v)); };
    Value sign = arith::AndIOp::create(b, loc, bitsOf(x), constantInt(std::numeric_limits<int32_t>::min()));
    far = arith::BitcastOp::create(b, loc, f32, Value(arith::OrIOp::create(b, loc, bitsOf(far), sign)));
    Value isNear = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLT, size, constant(0.6));
    return arith::SelectOp::create(b, loc, isNear, near, far);
  }

  Value quotient(Value x, Value y) {
    Value inverse = reciprocal(y);
    if (mlir::matchPattern(x, mlir::m_OneFloat())) return inverse;
    return mul(x, inverse);
  }

 private:
  mlir::OpBuilder b;
  mlir::Location loc;
  mlir::Type f32, i32;
  const bool narrow;

  Value constant(double value) {
    return arith::ConstantOp::create(b, loc, b.getF32FloatAttr(static_cast<float>(value)));
  }
  Value constantInt(int32_t value) { return arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(value)); }
  Value mul(Value x, Value y) { return arith::MulFOp::create(b, loc, x, y); }
  Value sub(Value x, Value y) { return arith::SubFOp::create(b, loc, x, y); }
  Value fma(Value x, Value y, Value z) { return math::FmaOp::create(b, loc, x, y, z); }
  Value reciprocal(Value x) { return mlir::NVVM::RcpApproxFtzF32Op::create(b, loc, f32, x); }
  /// Comparison and choice, so that a NaN comes through.
  Value bounded(Value x, arith::CmpFPredicate beyond, double bound) {
    Value limit = constant(bound);
    Value outside = arith::CmpFOp::create(b, loc, beyond, x, limit);
    return arith::SelectOp::create(b, loc, outside, limit, x);
  }
};

struct ApproximateFunctions : impl::ApproximateFunctionsBase<ApproximateFunctions> {
  using ApproximateFunctionsBase::ApproximateFunctionsBase;
  void runOnOperation() override {
    getOperation().walk([&](mlir::Operation *op) {
      Value value;
      Approximation by(op, narrow);
      if (mlir::isa<math::ExpOp>(op)) value = by.exp(op->getOperand(0));
      else if (mlir::isa<math::Exp2Op>(op)) value = by.exp2(op->getOperand(0));
      else if (mlir::isa<math::TanhOp>(op)) value = by.tanh(op->getOperand(0));
      else if (op->hasAttr(approximate)) value = by.quotient(op->getOperand(0), op->getOperand(1));
      else return;
      op->getResult(0).replaceAllUsesWith(value);
      op->erase();
    });
  }
};

}  // namespace
}  // namespace weft
