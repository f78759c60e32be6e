#include "compiler/target/cpu/expand_exp.h"

#include "mlir/Dialect/Math/IR/Math.h"

namespace weft::cpu {
namespace {

namespace arith = mlir::arith;
namespace math = mlir::math;

class ExpExpansion {
 public:
  ExpExpansion(math::ExpOp op, const Machine &machine) : b(op), loc(op.getLoc()), type(op.getType()), machine(machine) {
    op.getResult().replaceAllUsesWith(expand(op.getOperand()));
    op.erase();
  }

 private:
  mlir::OpBuilder b;
  mlir::Location loc;
  mlir::Type type;
  const Machine &machine;

  mlir::Type with(mlir::Type element) {
    if (auto vector = mlir::dyn_cast<mlir::VectorType>(type)) return vector.clone(element);
    return element;
  }
  Value constant(double value) {
    mlir::Attribute attr = b.getF32FloatAttr(static_cast<float>(value));
    if (auto vector = mlir::dyn_cast<mlir::VectorType>(type))
      attr = mlir::DenseElementsAttr::get(vector, attr);
    return arith::ConstantOp::create(b, loc, mlir::cast<mlir::TypedAttr>(attr));
  }
  Value constantInt(int32_t value) {
    mlir::Attribute attr = b.getI32IntegerAttr(value);
    if (auto vector = mlir::dyn_cast<mlir::VectorType>(with(b.getI32Type())))
      attr = mlir::DenseElementsAttr::get(vector, attr);
    return arith::ConstantOp::create(b, loc, mlir::cast<mlir::TypedAttr>(attr));
  }
  Value mul(Value x, Value y) { return arith::MulFOp::create(b, loc, x, y); }
  Value fma(Value x, Value y, Value z) { return math::FmaOp::create(b, loc, x, y, z); }
  /// Comparison and choice, so that a NaN comes through.
  Value bounded(Value x, arith::CmpFPredicate beyond, double bound) {
    Value limit = constant(bound);
    Value outside = arith::CmpFOp::create(b, loc, beyond, x, limit);
    return arith::SelectOp::create(b, loc, outside, limit, x);
  }

  Value expand(Value x) {
    const bool scalef = machine.lanes == 16 && mlir::isa<mlir::VectorType>(type);
    // With vscalefps any exponent will do; without, 2^n is built from bits and n must stay in range.
    x = bounded(x, arith::CmpFPredicate::OLT, scalef ? -120 : -87.4);
    x = bounded(x, arith::CmpFPredicate::OGT, scalef ? 100 : 88.73);
    Value n = math::RoundEvenOp::create(b, loc, mul(x, constant(1.44269504088896341)));
    Value r = fma(n, constant(-0.693359375), x);
    r = fma(n, constant(2.12194440e-4), r);
    Value p = constant(1.9875691500e-4);
    for (double c : {1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1, 1.0, 1.0})
      p = fma(p, r, constant(c));
    if (scalef) {
      Value mask = arith::ConstantOp::create(b, loc, b.getI16IntegerAttr(-1));
      Value rounding = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(4));  // as set
      return mlir::LLVM::CallIntrinsicOp::create(b, loc, type, b.getStringAttr("llvm.x86.avx512.mask.scalef.ps.512"),
                                                 mlir::ValueRange{p, n, p, mask, rounding})
          .getResult(0);
    }
    // 2^n as 2 * 2^(n-1), so that n = 128 does not overflow before the product does.
    Value e = arith::FPToSIOp::create(b, loc, with(b.getI32Type()), n);
    e = arith::ShLIOp::create(b, loc, arith::AddIOp::create(b, loc, e, constantInt(126)), constantInt(23));
    Value scale = arith::BitcastOp::create(b, loc, type, e);
    return mul(arith::AddFOp::create(b, loc, p, p), scale);
  }
};

}  // namespace

void expandExp(mlir::ModuleOp module, const Machine &machine) {
  llvm::SmallVector<math::ExpOp> ops;
  module.walk([&](math::ExpOp op) { ops.push_back(op); });
  for (math::ExpOp op : ops) ExpExpansion(op, machine);
}

}  // namespace weft::cpu
