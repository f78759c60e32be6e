// exp as a polynomial, the way this CPU scales by powers of two best.
//
// Before: math.exp on f32, f64 or vectors of them. After: none. Cody-Waite reduction by ln 2 and the Cephes
// polynomial, of f64 Taylor's, 1 ulp; results below the least normal number are zero (or denormal with AVX-512).
#include <numbers>

#include "compiler/passes.h"
#include "mlir/Dialect/Math/IR/Math.h"

namespace weft {

#define GEN_PASS_DEF_EXPANDEXP
#include "compiler/Passes.h.inc"

namespace {

using mlir::Value;

namespace arith = mlir::arith;
namespace math = mlir::math;

/// Replaces one math.exp or math.exp2.
class ExpExpansion {
 public:
  ExpExpansion(mlir::Operation *op, bool avx512)
      : b(op),
        loc(op->getLoc()),
        type(op->getResult(0).getType()),
        wide(mlir::getElementTypeOrSelf(type).isF64()),
        scalef(avx512 && !wide && mlir::isa<mlir::VectorType>(type)) {
    Value x = op->getOperand(0);
    const bool two = mlir::isa<math::Exp2Op>(op);
    op->getResult(0).replaceAllUsesWith(wide ? expandWide(x, two) : two ? expand2(x) : expand(x));
    op->erase();
  }

 private:
  mlir::OpBuilder b;
  mlir::Location loc;
  mlir::Type type;
  const bool wide;    ///< f64
  const bool scalef;  ///< vscalefps, vrndscaleps, vreduceps

  mlir::Type with(mlir::Type element) {
    if (auto vector = mlir::dyn_cast<mlir::VectorType>(type)) return vector.clone(element);
    return element;
  }
  Value constant(double value) {
    mlir::Attribute attr = b.getFloatAttr(mlir::getElementTypeOrSelf(type), value);
    if (auto vector = mlir::dyn_cast<mlir::VectorType>(type)) attr = mlir::DenseElementsAttr::get(vector, attr);
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

  /// A function of one operand, an immediate and the rounding in force, of all lanes.
  Value masked(const char *intrinsic, Value x, int immediate) {
    Value imm = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(immediate));
    return call(intrinsic, {x, imm, x});
  }
  Value call(const char *intrinsic, llvm::SmallVector<Value> args) {
    args.push_back(arith::ConstantOp::create(b, loc, b.getI16IntegerAttr(-1)));
    args.push_back(arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(4)));
    return mlir::LLVM::CallIntrinsicOp::create(b, loc, type, b.getStringAttr(intrinsic), args).getResult(0);
  }

  /// e^x: n * ln 2 taken off in two parts, then the Cephes polynomial.
  Value expand(Value x) {
    // With vscalefps any exponent will do; without, 2^n is built from bits and n must stay in range.
    x = bounded(x, arith::CmpFPredicate::OLT, scalef ? -120 : -87.4);
    x = bounded(x, arith::CmpFPredicate::OGT, scalef ? 100 : 88.73);
    Value n = math::RoundEvenOp::create(b, loc, mul(x, constant(1.44269504088896341)));
    Value r = fma(n, constant(-0.693359375), x);
    r = fma(n, constant(2.12194440e-4), r);
    return scaled(polynomial(r, {1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
                                 5.0000001201e-1, 1.0, 1.0}),
                  n);
  }

  /// 2^x: the nearest integer taken off exactly, then the Cephes polynomial.
  Value expand2(Value x) {
    Value n, r;
    if (scalef) {
      n = masked("llvm.x86.avx512.mask.rndscale.ps.512", x, 8);  // nearest, no exception
      r = masked("llvm.x86.avx512.mask.reduce.ps.512", x, 8);    // x - n; 0 where x is infinite
    } else {
      x = bounded(x, arith::CmpFPredicate::OLT, -127);
      x = bounded(x, arith::CmpFPredicate::OGT, 128);
      n = math::RoundEvenOp::create(b, loc, x);
      r = arith::SubFOp::create(b, loc, x, n);
    }
    Value p = polynomial(r, {1.535336188319500e-4, 1.339887440266574e-3, 9.618437357674640e-3, 5.550332471162809e-2,
                             2.402264791363012e-1, 6.931472028550421e-1, 1.0});
    return scalef ? scaled(p, n) : shifted(p, n);
  }

  /// Of f64. The upper part of ln 2 has 20 zeros at its end: its product with n is exact.
  Value expandWide(Value x, bool two) {
    x = bounded(x, arith::CmpFPredicate::OLT, two ? -1022 : -708);
    x = bounded(x, arith::CmpFPredicate::OGT, two ? 1024 : 709.79);
    Value n = math::RoundEvenOp::create(b, loc, two ? x : mul(x, constant(std::numbers::log2e)));
    Value r = two ? mul(arith::SubFOp::create(b, loc, x, n), constant(std::numbers::ln2))
                  : fma(n, constant(-1.90821492927058770002e-10), fma(n, constant(-6.93147180369123816490e-01), x));
    // Taylor's: |r| is at most ln 2 / 2, what is left out 4e-18 of the sum.
    Value p;
    double factorial = 6227020800;  // 13!
    for (int power = 13; power >= 0; --power) {
      p = p ? fma(p, r, constant(1 / factorial)) : constant(1 / factorial);
      if (power) factorial /= power;
    }
    // n - 1 + 1023 in the lower bits of a sum with 1.5 * 2^52, moved to where an exponent is: 2^(n-1).
    Value biased = arith::AddFOp::create(b, loc, n, constant(0x1.8p52 + 1022));
    Value bits = arith::BitcastOp::create(b, loc, with(b.getI64Type()), biased);
    mlir::Attribute by = b.getI64IntegerAttr(52);
    if (auto vector = mlir::dyn_cast<mlir::VectorType>(bits.getType())) by = mlir::DenseElementsAttr::get(vector, by);
    bits = arith::ShLIOp::create(b, loc, bits, arith::ConstantOp::create(b, loc, mlir::cast<mlir::TypedAttr>(by)));
    return mul(arith::AddFOp::create(b, loc, p, p), Value(arith::BitcastOp::create(b, loc, type, bits)));
  }

  Value polynomial(Value r, std::initializer_list<double> coefficients) {
    Value p;
    for (double c : coefficients) p = p ? fma(p, r, constant(c)) : constant(c);
    return p;
  }

  /// p * 2^n.
  Value scaled(Value p, Value n) {
    if (scalef) return call("llvm.x86.avx512.mask.scalef.ps.512", {p, n, p});
    // 2^n as 2 * 2^(n-1), so that n = 128 does not overflow before the product does.
    Value e = toInts(n);
    e = arith::ShLIOp::create(b, loc, arith::AddIOp::create(b, loc, e, constantInt(126)), constantInt(23));
    return mul(arith::AddFOp::create(b, loc, p, p), Value(arith::BitcastOp::create(b, loc, type, e)));
  }

  /// p * 2^n, n added to the exponent of p: of n = 128 p is at most 1, which gives infinity; of -127 at least 1, which
  /// gives zero or what is denormal. A NaN's n has no lower bits: it stays one.
  Value shifted(Value p, Value n) {
    Value e = arith::ShLIOp::create(b, loc, toInts(n), constantInt(23));
    Value bits = arith::BitcastOp::create(b, loc, with(b.getI32Type()), p);
    return arith::BitcastOp::create(b, loc, type, arith::AddIOp::create(b, loc, bits, e));
  }
  Value toInts(Value n) { return arith::FPToSIOp::create(b, loc, with(b.getI32Type()), n); }
};

struct ExpandExp : impl::ExpandExpBase<ExpandExp> {
  using ExpandExpBase::ExpandExpBase;
  void runOnOperation() override {
    llvm::SmallVector<mlir::Operation *> ops;
    getOperation().walk([&](mlir::Operation *op) {
      if (mlir::isa<math::ExpOp, math::Exp2Op>(op)) ops.push_back(op);
    });
    for (mlir::Operation *op : ops) ExpExpansion(op, avx512);
  }
};

}  // namespace
}  // namespace weft
