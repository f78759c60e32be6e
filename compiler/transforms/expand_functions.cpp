// Replaces `weft.map` by operations of `arith` and `math`.
//
// Before: tile kernels whose scalar regions apply functions of the language.
// After: no `weft.map` is left in them. sin and cos are polynomials; exp and tanh stay operations of `math`,
// which each target expands; a quotient that may be off by two units in the last place is marked. Test:
// build_kernels.mlir
#include <cmath>
#include <limits>
#include <optional>

#include "compiler/passes.h"
#include "compiler/transforms/scalar_builder.h"
#include "mlir/Dialect/Math/IR/Math.h"

namespace weft {

#define GEN_PASS_DEF_EXPANDFUNCTIONS
#include "compiler/Passes.h.inc"

namespace {

using mlir::Value;
namespace arith = mlir::arith;
namespace math = mlir::math;

class Expander {
 public:
  Expander(mlir::OpBuilder &builder, mlir::Location loc)
      : b(builder), loc(loc), s(builder, loc), wide(dialect::realType(builder.getContext()).isF64()) {}

  /// x / y of a whole x, y the same for many: by its reciprocal, which is computed once. A step of Newton's leaves the
  /// quotient correctly rounded but where it lies within 2^-46 of the middle of two floats (Markstein 1990); a whole
  /// one is exact. Where y or 1 / y is near the ends of f32 the step could leave it.
  Value distanceBy(Value x, Value y) {
    constexpr double most = std::numeric_limits<float>::max();
    Value exact = div(one(), y), bounded = least(greatest(exact, s.constant(-most)), s.constant(most));
    Value isZero = compare({y, s.constant(0)}, arith::CmpFPredicate::OEQ, arith::CmpIPredicate::eq);
    // 0 divided by the least of floats is 0.
    Value inverse = select(isZero, exact, bounded), estimate = mul(x, inverse);
    Value better = fma(fma(neg(estimate), y, x), inverse, estimate);
    Value size = math::AbsFOp::create(b, loc, y);
    Value inRange = arith::AndIOp::create(
        b, loc, compare({size, s.constant(0x1p-60)}, arith::CmpFPredicate::OGT, arith::CmpIPredicate::sgt),
        compare({size, s.constant(0x1p60)}, arith::CmpFPredicate::OLT, arith::CmpIPredicate::slt));
    return select(inRange, better, estimate);
  }

  /// `exact`: a result of ints is known to fit.
  Value expand(Function function, mlir::ValueRange x, bool exact) {
    const bool real = dialect::isReal(x[0].getType());
    switch (function) {
      case Function::Neg: return real ? neg(x[0]) : difference(s.constantInt(0), x[0], exact);
      case Function::Add: return real ? add(x[0], x[1]) : sum(x[0], x[1], exact);
      case Function::Sub: return real ? sub(x[0], x[1]) : difference(x[0], x[1], exact);
      case Function::Mul: return real ? mul(x[0], x[1]) : product(x[0], x[1], exact);
      case Function::Div: return div(x[0], x[1]);
      case Function::Mod: return real ? fmod(x[0], x[1]) : imod(x[0], x[1]);
      case Function::FloorDiv: return idiv(x[0], x[1], exact);
      case Function::BitAnd: return arith::AndIOp::create(b, loc, x[0], x[1]);
      case Function::BitOr: return arith::OrIOp::create(b, loc, x[0], x[1]);
      case Function::BitXor: return exclusive(x[0], x[1]);
      case Function::ShiftLeft: return shiftLeft(x[0], x[1], exact);
      case Function::ShiftRight: return arith::ShRSIOp::create(b, loc, x[0], shiftOf(x[1]));
      case Function::Min: return least(x[0], x[1]);
      case Function::Max: return greatest(x[0], x[1]);
      case Function::Clamp: return least(greatest(x[0], x[1]), x[2]);
      case Function::Abs:
        return real ? Value(math::AbsFOp::create(b, loc, x[0]))
                    : greatest(x[0], difference(s.constantInt(0), x[0], exact));
      case Function::Exp: return exp(x[0]);
      case Function::Exp2: return math::Exp2Op::create(b, loc, x[0]);
      case Function::Log: return math::LogOp::create(b, loc, x[0]);
      case Function::Log2: return math::Log2Op::create(b, loc, x[0]);
      case Function::Log1p: return math::Log1pOp::create(b, loc, x[0]);
      case Function::Sqrt: return math::SqrtOp::create(b, loc, x[0]);
      case Function::Rsqrt: return div(one(), math::SqrtOp::create(b, loc, x[0]));
      case Function::Sin: return wide ? Value(math::SinOp::create(b, loc, x[0])) : sine(x[0], false);
      case Function::Cos: return wide ? Value(math::CosOp::create(b, loc, x[0])) : sine(x[0], true);
      case Function::Tanh: return math::TanhOp::create(b, loc, x[0]);
      case Function::Erf: return wide ? Value(math::ErfOp::create(b, loc, x[0])) : errorFunction(x[0]);
      case Function::Sigmoid: return quotient(one(), add(one(), exp(neg(x[0]))));
      case Function::Relu: return greatest(x[0], s.constant(0));
      case Function::Softplus: {
        Value e = exp(neg(math::AbsFOp::create(b, loc, x[0])));
        if (wide) return add(greatest(x[0], s.constant(0)), math::Log1pOp::create(b, loc, e));
        // log(1 + e) = 2 artanh(e / (2 + e)); with e up to 1 eight terms of its series leave 1e-9.
        Value z = quotient(e, add(e, s.constant(2))), square = mul(z, z), sum = s.constant(2.0 / 15);
        for (int odd = 13; odd > 0; odd -= 2) sum = add(mul(sum, square), s.constant(2.0 / odd));
        return add(greatest(x[0], s.constant(0)), mul(z, sum));
      }
      case Function::Pow: return math::PowFOp::create(b, loc, x[0], x[1]);
      case Function::Triangle: {
        Value f = sub(x[0], floorF(x[0]));
        Value distance = math::AbsFOp::create(b, loc, sub(f, s.constant(0.5)));
        return sub(mul(s.constant(4), distance), one());
      }
      case Function::Floor: return toInt(floorF(x[0]));
      case Function::Ceil: return toInt(math::CeilOp::create(b, loc, x[0]));
      case Function::Round: return toInt(math::RoundEvenOp::create(b, loc, x[0]));
      case Function::Lt: return compare(x, arith::CmpFPredicate::OLT, arith::CmpIPredicate::slt);
      case Function::Le: return compare(x, arith::CmpFPredicate::OLE, arith::CmpIPredicate::sle);
      case Function::Gt: return compare(x, arith::CmpFPredicate::OGT, arith::CmpIPredicate::sgt);
      case Function::Ge: return compare(x, arith::CmpFPredicate::OGE, arith::CmpIPredicate::sge);
      case Function::Eq: return compare(x, arith::CmpFPredicate::OEQ, arith::CmpIPredicate::eq);
      case Function::Ne: return compare(x, arith::CmpFPredicate::UNE, arith::CmpIPredicate::ne);
      case Function::And: return arith::AndIOp::create(b, loc, x[0], x[1]);
      case Function::Or: return arith::OrIOp::create(b, loc, x[0], x[1]);
      case Function::Not: return arith::XOrIOp::create(b, loc, x[0], s.constantBool(true));
      case Function::Select: return select(x[0], x[1], x[2]);
      case Function::ToFloat:
        if (x[0].getType().isInteger(1)) return select(x[0], one(), s.constant(0));
        return arith::SIToFPOp::create(b, loc, dialect::realType(b.getContext()), x[0]);
    }
    return {};
  }

 private:
  mlir::OpBuilder &b;
  mlir::Location loc;
  ScalarBuilder s;
  const bool wide;  ///< floats are f64: what is a polynomial of f32 is left to the C library

  Value one() { return s.constant(1); }
  Value neg(Value x) { return arith::NegFOp::create(b, loc, x); }
  Value add(Value x, Value y) { return arith::AddFOp::create(b, loc, x, y); }
  Value sub(Value x, Value y) { return arith::SubFOp::create(b, loc, x, y); }
  Value mul(Value x, Value y) { return arith::MulFOp::create(b, loc, x, y); }
  Value div(Value x, Value y) { return arith::DivFOp::create(b, loc, x, y); }
  /// Of a function that is itself rounded several times.
  Value quotient(Value x, Value y) {
    auto quotient = arith::DivFOp::create(b, loc, x, y);
    quotient->setAttr(approximate, b.getUnitAttr());
    return quotient;
  }
  Value isub(Value x, Value y) { return arith::SubIOp::create(b, loc, x, y); }
  Value exclusive(Value x, Value y) { return arith::XOrIOp::create(b, loc, x, y); }
  /// The least int where `sign` is negative, else the greatest.
  Value farEnd(Value sign) {
    return exclusive(arith::ShRSIOp::create(b, loc, sign, s.constantInt(31)),
                     s.constantInt(std::numeric_limits<int32_t>::max()));
  }
  Value isNegative(Value x) { return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, x, s.constantInt(0)); }
  Value sum(Value x, Value y, bool exact) {
    Value wrapped = arith::AddIOp::create(b, loc, x, y);
    if (exact) return wrapped;
    // It left 32 bits where its sign is neither that of x nor that of y.
    Value left = isNegative(arith::AndIOp::create(b, loc, exclusive(x, wrapped), exclusive(y, wrapped)));
    return select(left, farEnd(x), wrapped);
  }
  Value difference(Value x, Value y, bool exact) {
    Value wrapped = isub(x, y);
    if (exact) return wrapped;
    Value left = isNegative(arith::AndIOp::create(b, loc, exclusive(x, y), exclusive(x, wrapped)));
    return select(left, farEnd(x), wrapped);
  }
  Value product(Value x, Value y, bool exact) {
    if (exact) return arith::MulIOp::create(b, loc, x, y);
    auto wide = arith::MulSIExtendedOp::create(b, loc, x, y);
    Value extended = arith::ShRSIOp::create(b, loc, wide.getLow(), s.constantInt(31));
    Value left = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, wide.getHigh(), extended);
    return select(left, farEnd(exclusive(x, y)), wide.getLow());
  }
  Value floorF(Value x) { return math::FloorOp::create(b, loc, x); }
  Value select(Value c, Value x, Value y) { return arith::SelectOp::create(b, loc, c, x, y); }
  Value fma(Value x, Value y, Value z) { return math::FmaOp::create(b, loc, x, y, z); }
  Value compare(mlir::ValueRange x, arith::CmpFPredicate f, arith::CmpIPredicate i) {
    if (dialect::isReal(x[0].getType())) return arith::CmpFOp::create(b, loc, f, x[0], x[1]);
    return arith::CmpIOp::create(b, loc, i, x[0], x[1]);
  }
  // Written as a comparison and a choice so that a NaN in x comes through.
  Value least(Value x, Value bound) {
    return select(compare({x, bound}, arith::CmpFPredicate::OGT, arith::CmpIPredicate::sgt), bound, x);
  }
  Value greatest(Value x, Value bound) {
    return select(compare({x, bound}, arith::CmpFPredicate::OLT, arith::CmpIPredicate::slt), bound, x);
  }
  Value toInt(Value x) {
    Value inside = least(greatest(x, s.constant(-2147483520.0)), s.constant(2147483520.0));
    Value number = compare({x, x}, arith::CmpFPredicate::OEQ, arith::CmpIPredicate::eq);
    return arith::FPToSIOp::create(b, loc, b.getI32Type(), select(number, inside, s.constant(0)));
  }
  /// Rounded once: a quotient just below a whole number may have been rounded to it, never above one that it does not
  /// reach.
  Value fmod(Value x, Value y) {
    Value r = fma(neg(y), floorF(div(x, y)), x);
    return select(compare({mul(r, y), s.constant(0)}, arith::CmpFPredicate::OLT, arith::CmpIPredicate::slt), add(r, y),
                  r);
  }
  Value iadd(Value x, Value y) { return arith::AddIOp::create(b, loc, x, y); }
  Value compareInts(arith::CmpIPredicate predicate, Value x, Value y) {
    return arith::CmpIOp::create(b, loc, predicate, x, y);
  }
  /// The exponent of a constant that is a power of two.
  static std::optional<int> powerOfTwo(Value y) {
    const auto known = dialect::constantOf(y);
    if (!known || *known < 1 || std::exp2(std::ilogb(*known)) != *known) return std::nullopt;
    return std::ilogb(*known);
  }

  struct Division {
    Value quotient, remainder;
  };
  /// Rounded down; of a divisor 0 as if it were 1. Vectors have no integer division: a quotient in f32, off by up to
  /// 2^9 / |y| + 1, leaves at most 2^9 + |y|; a second one is off by one at most.
  Division divide(Value x, Value y) {
    Value zero = s.constantInt(0), quotient = zero, r = x;
    auto toFloat = [&](Value v) {
      return Value(arith::SIToFPOp::create(b, loc, dialect::realType(b.getContext()), v));
    };
    Value inverse = div(one(), toFloat(y));
    for (int step = 0; step < 2; ++step) {
      Value part = toInt(floorF(mul(toFloat(r), inverse)));
      r = isub(r, arith::MulIOp::create(b, loc, part, y));
      quotient = step ? iadd(quotient, part) : part;
    }
    Value opposite = arith::AndIOp::create(b, loc, compareInts(arith::CmpIPredicate::slt, exclusive(r, y), zero),
                                           compareInts(arith::CmpIPredicate::ne, r, zero));
    Value beyond = select(compareInts(arith::CmpIPredicate::sgt, y, zero), compareInts(arith::CmpIPredicate::sge, r, y),
                          compareInts(arith::CmpIPredicate::sle, r, y));
    Value step = select(opposite, s.constantInt(-1), select(beyond, s.constantInt(1), zero));
    return {iadd(quotient, step), select(opposite, iadd(r, y), select(beyond, isub(r, y), r))};
  }
  Value isZero(Value y) { return compareInts(arith::CmpIPredicate::eq, y, s.constantInt(0)); }
  /// Sign of the divisor; x mod 0 is 0.
  Value imod(Value x, Value y) {
    if (auto power = powerOfTwo(y)) return arith::AndIOp::create(b, loc, x, s.constantInt((int64_t{1} << *power) - 1));
    return divide(x, select(isZero(y), s.constantInt(1), y)).remainder;
  }
  /// x div 0 is 0. One quotient leaves 32 bits: that of the least int and -1.
  Value idiv(Value x, Value y, bool exact) {
    if (auto power = powerOfTwo(y)) return arith::ShRSIOp::create(b, loc, x, s.constantInt(*power));
    Value none = isZero(y), quotient = divide(x, select(none, s.constantInt(1), y)).quotient;
    if (!exact) {
      const int64_t least = std::numeric_limits<int32_t>::min(), most = std::numeric_limits<int32_t>::max();
      Value leaves = arith::AndIOp::create(b, loc, compareInts(arith::CmpIPredicate::eq, x, s.constantInt(least)),
                                           compareInts(arith::CmpIPredicate::eq, y, s.constantInt(-1)));
      quotient = select(leaves, s.constantInt(most), quotient);
    }
    return select(none, s.constantInt(0), quotient);
  }
  /// Of a shift by what is no number of bits: by the nearest one.
  Value shiftOf(Value y) { return least(greatest(y, s.constantInt(0)), s.constantInt(31)); }
  Value shiftLeft(Value x, Value y, bool exact) {
    Value by = shiftOf(y), shifted = arith::ShLIOp::create(b, loc, x, by);
    if (exact) return shifted;
    Value back = arith::ShRSIOp::create(b, loc, shifted, by);
    return select(compareInts(arith::CmpIPredicate::ne, back, x), farEnd(x), shifted);
  }
  /// erf: an odd polynomial below 1, above it 1 - exp of a polynomial, the logarithm of erfc. Both are minimax fits of
  /// this project's (relative error 1.2e-9, error 2e-11); with their rounding 2.4 units in the last place.
  Value errorFunction(Value x) {
    auto polynomial = [&](Value t, std::initializer_list<double> coefficients) {
      Value p;
      for (double c : coefficients) p = p ? fma(p, t, s.constant(c)) : s.constant(c);
      return p;
    };
    Value size = math::AbsFOp::create(b, loc, x);
    Value near = mul(x, polynomial(mul(x, x), {7.853860964e-05, -8.010193509e-04, 5.188327673e-03, -2.685381193e-02,
                                               1.128358515e-01, -3.761262582e-01, 1.128379166e+00}));
    Value logarithm = polynomial(least(size, s.constant(4)),
                                 {9.100966802e-08, -2.299496796e-05, 4.493947413e-04, -4.232357954e-03, 2.526699491e-02,
                                  -1.084964770e-01, -6.331565446e-01, -1.129607320e+00, 1.937042312e-04});
    Value far = math::CopySignOp::create(b, loc, sub(one(), exp(logarithm)), x);
    return select(compare({size, one()}, arith::CmpFPredicate::OLT, arith::CmpIPredicate::slt), near, far);
  }
  /// sin or cos: the quadrant taken off in three parts (Cody and Waite), then the Cephes polynomials.
  Value sine(Value x, bool cosine) {
    Value n = math::RoundEvenOp::create(b, loc, mul(x, s.constant(M_2_PI)));
    Value r = x;
    for (double part : {-1.57079637050628662109375, 4.37113900018624283e-8, 1.71512449809379e-15})
      r = fma(n, s.constant(part), r);
    Value square = mul(r, r);
    Value p = s.constant(-1.9515295891e-4);
    p = fma(p, square, s.constant(8.3321608736e-3));
    p = fma(p, square, s.constant(-1.6666654611e-1));
    Value sinR = fma(mul(p, square), r, r);
    Value q = s.constant(2.443315711809948e-5);
    q = fma(q, square, s.constant(-1.388731625493765e-3));
    q = fma(q, square, s.constant(4.166664568298827e-2));
    Value cosR = fma(mul(q, square), square, fma(square, s.constant(-0.5), one()));
    Value quadrant = toInt(n);
    if (cosine) quadrant = arith::AddIOp::create(b, loc, quadrant, s.constantInt(1));
    auto bit = [&](int64_t mask) { return Value(arith::AndIOp::create(b, loc, quadrant, s.constantInt(mask))); };
    Value odd = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, bit(1), s.constantInt(0));
    // The sign by exclusive or: of two tests of bits of one register ptxas (12.4 to 13.5) may keep one only, and take
    // the other's predicate from elsewhere.
    Value sign = arith::ShLIOp::create(b, loc, bit(2), s.constantInt(30));
    Value result = arith::BitcastOp::create(b, loc, b.getI32Type(), select(odd, cosR, sinR));
    return arith::BitcastOp::create(b, loc, dialect::realType(b.getContext()), exclusive(result, sign));
  }
  Value exp(Value x) { return math::ExpOp::create(b, loc, x); }  // each target has its own way
};

/// True for what all pairs of a region have in common: no coordinate of a pair and no element of a tile goes into it.
bool isUniform(Value value, mlir::Block &pairs, int &room) {
  if (auto argument = mlir::dyn_cast<mlir::BlockArgument>(value)) return argument.getOwner() != &pairs;
  mlir::Operation *op = value.getDefiningOp();
  if (--room < 0 || op->getNumRegions() || !mlir::isMemoryEffectFree(op)) return false;
  return llvm::all_of(op->getOperands(), [&](Value operand) { return isUniform(operand, pairs, room); });
}

/// The quotient of an int and what all pairs have in common.
bool dividesDistance(dialect::MapOp op) {
  if (op.function() != Function::Div || !op.getArgs()[0].getDefiningOp<arith::SIToFPOp>()) return false;
  auto pairs = mlir::dyn_cast<tile::PairwiseOp>(op->getParentOp());
  int room = 32;
  return pairs && isUniform(op.getArgs()[1], pairs.getBody().front(), room);
}

struct ExpandFunctions : impl::ExpandFunctionsBase<ExpandFunctions> {
  void runOnOperation() override {
    for (auto kernel : getOperation().getOps<tile::KernelOp>())
      kernel.walk([&](dialect::MapOp op) {
        mlir::OpBuilder builder(op);
        Expander expander(builder, op.getLoc());
        Value value = dividesDistance(op) ? expander.distanceBy(op.getArgs()[0], op.getArgs()[1])
                                          : expander.expand(op.function(), op.getArgs(), op.getExact());
        op.getResult().replaceAllUsesWith(value);
        op.erase();
      });
  }
};

}  // namespace
}  // namespace weft
