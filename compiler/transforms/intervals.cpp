#include "compiler/transforms/intervals.h"

#include <cmath>
#include <limits>

#include "compiler/transforms/operands_first.h"
#include "mlir/IR/Matchers.h"

namespace weft {

using mlir::Value;

static constexpr double infinity = std::numeric_limits<double>::infinity();

/// Known from its form alone.
static bool isFinite(Value value) {
  if (auto known = dialect::constantOf(value)) return std::isfinite(*known);
  auto map = value.getDefiningOp<dialect::MapOp>();
  return map && map.function() == Function::ToFloat;
}

static bool isApproximate(Function function) {
  switch (function) {
    case Function::Exp:
    case Function::Exp2:
    case Function::Log:
    case Function::Log1p:
    case Function::Sqrt:
    case Function::Rsqrt:
    case Function::Sin:
    case Function::Cos:
    case Function::Tanh:
    case Function::Sigmoid:
    case Function::Softplus:
    case Function::Pow: return true;
    default: return false;
  }
}

IntervalBuilder::IntervalBuilder(mlir::OpBuilder &builder, mlir::Location loc, dialect::PairwiseOp program,
                                 const Box &box)
    : s(builder, loc) {
  mlir::Block &block = program.getBody().front();
  known[block.getArgument(0)] = point(box.b);
  known[block.getArgument(1)] = point(box.h);
  known[block.getArgument(2)] = box.i;
  known[block.getArgument(3)] = box.j;
}

Interval IntervalBuilder::point(Value value) {
  return numbers({value, value, s.constantBool(false), {}, value.getType().isF32() ? value : Value()});
}

Interval IntervalBuilder::whole(mlir::Type type, Value varies) {
  if (type.isInteger(1)) return {s.constantBool(false), s.constantBool(true), varies, {}};
  if (type.isInteger(32))
    return {s.constantInt(std::numeric_limits<int32_t>::min()),
            s.constantInt(std::numeric_limits<int32_t>::max()),
            varies,
            {}};
  return {s.constant(-infinity), s.constant(infinity), varies, s.constantBool(true)};
}

Value IntervalBuilder::negate(Value a) {
  if (auto known = dialect::boolOf(a)) return s.constantBool(!*known);
  return s.map(Function::Not, {a});
}

/// Bounds that are NaN say nothing: the number can be any, and NaN. A single number that is NaN is nothing else: its
/// bounds are 0, which stands for no number, and arithmetic goes on from `exact`.
Interval IntervalBuilder::numbers(Interval x) {
  if (!x.lo.getType().isF32() || (isFinite(x.lo) && isFinite(x.hi))) return x;
  Value below = unequal(x.lo, x.lo);
  if (x.exact) {
    x.nan = either(nanOf(x), below);
    x.lo = x.hi = s.select(below, s.constant(0), x.lo);
    return x;
  }
  Value above = unequal(x.hi, x.hi);
  x.nan = either(nanOf(x), either(below, above));
  x.lo = s.select(below, s.constant(-infinity), x.lo);
  x.hi = s.select(above, s.constant(infinity), x.hi);
  return x;
}

Value IntervalBuilder::infinite(const Interval &x) {
  if (isFinite(x.lo) && isFinite(x.hi)) return s.constantBool(false);
  return either(s.map(Function::Eq, {x.lo, s.constant(-infinity)}), s.map(Function::Eq, {x.hi, s.constant(infinity)}));
}

Value IntervalBuilder::spansZero(const Interval &x) {
  Value zero = s.constant(0);
  return both(s.map(Function::Le, {x.lo, zero}), s.map(Function::Ge, {x.hi, zero}));
}

Interval IntervalBuilder::of(Value value) {
  operandsFirst(
      value, [&](Value own) { return known.contains(own); },
      [&](Value own) {
        const Interval result = fromOperands(own);
        known[own] = result;
      });
  return known.lookup(value);
}

Interval IntervalBuilder::fromOperands(Value value) {
  mlir::Operation *op = value.getDefiningOp();
  Interval result;
  if (auto map = mlir::dyn_cast<dialect::MapOp>(op)) {
    result = numbers(mapInterval(map));
  } else if (auto read = mlir::dyn_cast<dialect::ReadOp>(op)) {
    result = numbers(readInterval(read));
  } else if (auto mask = mlir::dyn_cast<dialect::MaskOp>(op)) {
    result = of(mask.getValue());
  } else if (mlir::isa<dialect::DimOp, mlir::arith::ConstantOp>(op)) {
    result = point(s.builder.clone(*op)->getResult(0));
  } else {
    // A dot of rows, or a random number: nothing is known of it.
    result = whole(value.getType(), s.constantBool(mlir::isa<dialect::DotOp>(op)));
  }
  return result;
}

Interval IntervalBuilder::readInterval(dialect::ReadOp op) {
  Value varies = s.constantBool(op.getType().isF32());
  llvm::SmallVector<Value> indices;
  Value last;
  int axis = -1;
  for (auto [at, index] : llvm::enumerate(op.getIndices())) {
    Interval interval = of(index);
    indices.push_back(interval.lo);
    if (interval.lo == interval.hi) continue;
    if (axis >= 0) return whole(op.getType(), varies);
    axis = static_cast<int>(at);
    last = interval.hi;
  }
  if (axis < 0) {
    Value value = dialect::ReadOp::create(s.builder, s.loc, op.getType(), op.getInput(), indices);
    return {value, value, varies, {}, op.getType().isF32() ? value : Value()};
  }
  auto range =
      tile::ReadRangeOp::create(s.builder, s.loc, op.getType(), op.getType(), op.getInput(), axis, last, indices);
  return {range.getLeast(), range.getGreatest(), varies, {}};
}

Interval IntervalBuilder::mapInterval(dialect::MapOp op) {
  if (isApproximate(op.function())) return boundsOf(op);
  llvm::SmallVector<Value, 3> args;
  for (Value arg : op.getArgs()) {
    Value one = single(of(arg));
    if (!one) return boundsOf(op);
    args.push_back(one);
  }
  // Arithmetic on single numbers is the kernel's own.
  Value value = same(op, args);
  if (!op.getType().isF32()) return {value, value, s.constantBool(false), {}};
  return {value, value, boundsOf(op).varies, {}, value};
}

Value IntervalBuilder::same(dialect::MapOp op, mlir::ValueRange args) {
  Value value = s.map(op.function(), args);
  if (auto map = value.getDefiningOp<dialect::MapOp>(); map && op.getExact()) map.setExact(true);
  return value;
}

Interval IntervalBuilder::boundsOf(dialect::MapOp op) {
  const Function f = op.function();
  llvm::SmallVector<Interval, 3> x;
  Value varies = s.constantBool(false), nan = s.constantBool(false);
  for (Value arg : op.getArgs()) {
    x.push_back(of(arg));
    varies = either(varies, x.back().varies);
    nan = either(nan, nanOf(x.back()));
  }
  auto call = [&](Function g, mlir::ValueRange args) { return g == f ? same(op, args) : s.map(g, args); };
  auto least = [&](Value a, Value b) { return s.map(Function::Min, {a, b}); };
  auto greatest = [&](Value a, Value b) { return s.map(Function::Max, {a, b}); };
  auto zeroOf = [&](Value like) { return like.getType().isF32() ? s.constant(0) : s.constantInt(0); };
  const bool real = op.getType().isF32();
  auto rising = [&](Value more) { return Interval{call(f, {x[0].lo}), call(f, {x[0].hi}), varies, more}; };
  // A polynomial does not rise in its last bits, and each target has its own.
  auto about = [&](Interval bounds) {
    auto slack = [&](Value v) { return s.mul(s.map(Function::Abs, {v}), s.constant(1.0 / (1 << 20))); };
    return Interval{s.sub(bounds.lo, slack(bounds.lo)), s.add(bounds.hi, slack(bounds.hi)), bounds.varies, bounds.nan};
  };
  Value zero = zeroOf(x[0].lo);
  switch (f) {
    case Function::Neg: return {call(f, {x[0].hi}), call(f, {x[0].lo}), varies, nan};
    case Function::Add:
    case Function::Sub: {
      const bool add = f == Function::Add;
      // Infinities can cancel.
      if (real) nan = either(nan, both(infinite(x[0]), infinite(x[1])));
      return {call(f, {x[0].lo, add ? x[1].lo : x[1].hi}), call(f, {x[0].hi, add ? x[1].hi : x[1].lo}), varies, nan};
    }
    case Function::Mul:
    case Function::Div: {
      llvm::SmallVector<Value, 4> corners;
      for (Value a : {x[0].lo, x[0].hi})
        for (Value b : {x[1].lo, x[1].hi}) corners.push_back(call(f, {a, b}));
      Value lo = least(least(corners[0], corners[1]), least(corners[2], corners[3]));
      Value hi = greatest(greatest(corners[0], corners[1]), greatest(corners[2], corners[3]));
      if (!real) return {lo, hi, varies, {}};
      Interval all = whole(lo.getType(), varies);
      Value odd;  // the corners are no bounds
      if (f == Function::Mul) {
        // A zero that stays zero takes a finite factor with it.
        auto deadZero = [&](const Interval &v) {
          return both(both(s.map(Function::Eq, {v.lo, zero}), s.map(Function::Eq, {v.hi, zero})), negate(v.varies));
        };
        odd = either(both(spansZero(x[0]), infinite(x[1])), both(spansZero(x[1]), infinite(x[0])));
        nan = either(nan, odd);
        varies = both(varies, either(nan, negate(either(deadZero(x[0]), deadZero(x[1])))));
      } else {
        odd = spansZero(x[1]);
        nan = either(nan, either(both(infinite(x[0]), infinite(x[1])), both(odd, spansZero(x[0]))));
        odd = either(odd, infinite(x[1]));
      }
      return {s.select(odd, all.lo, lo), s.select(odd, all.hi, hi), varies, nan};
    }
    case Function::Mod: {
      // Between 0 and the divisor, whichever its sign.
      Value lo = least(zero, x[1].lo), hi = greatest(zero, x[1].hi);
      if (real) {
        // Any number, where the quotient has no digits after the point.
        Value greatestQuotient =
            s.map(Function::Max, {s.map(Function::Abs, {x[0].lo}), s.map(Function::Abs, {x[0].hi})});
        Value smallest = s.map(Function::Min, {s.map(Function::Abs, {x[1].lo}), s.map(Function::Abs, {x[1].hi})});
        Value safe = both(negate(spansZero(x[1])),
                          s.map(Function::Lt, {greatestQuotient, s.mul(smallest, s.constant(1 << 20))}));
        nan = either(nan, either(either(infinite(x[0]), infinite(x[1])), spansZero(x[1])));
        Interval all = whole(op.getType(), varies);
        return {s.select(safe, lo, all.lo), s.select(safe, hi, all.hi), varies, nan};
      }
      if (x[1].lo == x[1].hi) {
        // Between two multiples of a positive divisor it rises.
        Value first = call(f, {x[0].lo, x[1].lo}), last = call(f, {x[0].hi, x[1].lo});
        Value one = both(s.map(Function::Lt, {s.sub(x[0].hi, x[0].lo), x[1].lo}), s.map(Function::Le, {first, last}));
        return {s.select(one, first, lo), s.select(one, last, hi), varies, {}};
      }
      return {lo, hi, varies, {}};
    }
    case Function::Min:
    case Function::Max: {
      // An argument that is never chosen passes no derivative.
      const bool min = f == Function::Min;
      auto chosen = [&](int own) {
        const Interval &a = x[own], &b = x[1 - own];
        return both(a.varies, min ? s.map(Function::Le, {a.lo, b.hi}) : s.map(Function::Ge, {a.hi, b.lo}));
      };
      Value lo = call(f, {x[0].lo, x[1].lo}), hi = call(f, {x[0].hi, x[1].hi});
      // A NaN as the second argument bounds nothing; as the first one it comes through.
      (min ? hi : lo) = s.select(nanOf(x[1]), min ? x[0].hi : x[0].lo, min ? hi : lo);
      return {lo, hi, either(either(chosen(0), chosen(1)), both(nan, varies)), x[0].nan};
    }
    case Function::Clamp: {
      // Outside its bounds a clamp passes no derivative of its argument.
      Value inside = both(s.map(Function::Le, {x[0].lo, x[2].hi}), s.map(Function::Ge, {x[0].hi, x[1].lo}));
      // The upper bound has the last word; a bound that is NaN is not there (see Min and Max).
      Value floor = s.select(nanOf(x[1]), x[0].lo, greatest(x[0].lo, x[1].lo)), lo = least(floor, x[2].lo);
      Value ceiling = greatest(x[0].hi, x[1].hi), hi = s.select(nanOf(x[2]), ceiling, least(ceiling, x[2].hi));
      return {lo, hi, either(both(x[0].varies, either(inside, nan)), either(x[1].varies, x[2].varies)), x[0].nan};
    }
    case Function::Abs: {
      Value a = call(f, {x[0].lo}), b = call(f, {x[0].hi});
      Value crosses = both(s.map(Function::Le, {x[0].lo, zero}), s.map(Function::Ge, {x[0].hi, zero}));
      return {s.select(crosses, zero, least(a, b)), greatest(a, b), varies, nan};
    }
    case Function::Relu:
      return {call(f, {x[0].lo}), call(f, {x[0].hi}), both(varies, either(nan, s.map(Function::Gt, {x[0].hi, zero}))),
              nan};
    case Function::Exp:
    case Function::Exp2:
    case Function::Sigmoid:
    case Function::Softplus: return about(rising(nan));
    case Function::Log:
    case Function::Log1p:
    case Function::Sqrt:
      // NaN below the domain; its bounds are then NaN as well and say nothing.
      return about(rising(either(nan, s.map(Function::Lt, {x[0].lo, f == Function::Log1p ? s.constant(-1) : zero}))));
    case Function::Floor:
    case Function::Ceil:
    case Function::Round: {
      // Of NaN it is 0.
      Value lo = call(f, {x[0].lo}), hi = call(f, {x[0].hi}), none = s.constantInt(0);
      return {s.select(nanOf(x[0]), least(lo, none), lo), s.select(nanOf(x[0]), greatest(hi, none), hi), varies, {}};
    }
    case Function::Triangle: {
      // 1 at whole numbers, -1 halfway between, straight lines from one to the next.
      auto passes = [&](double shift) {
        auto turns = [&](Value v) { return s.map(Function::Floor, {shift == 0 ? v : s.sub(v, s.constant(shift))}); };
        return s.map(Function::Lt, {turns(x[0].lo), turns(x[0].hi)});
      };
      Value a = call(f, {x[0].lo}), b = call(f, {x[0].hi});
      // Turns are counted in ints.
      Value narrow = both(s.map(Function::Lt, {s.map(Function::Abs, {x[0].lo}), s.constant(1e9)}),
                          s.map(Function::Lt, {s.map(Function::Abs, {x[0].hi}), s.constant(1e9)}));
      Value top = s.select(passes(0), s.constant(1), greatest(a, b)),
            bottom = s.select(passes(0.5), s.constant(-1), least(a, b));
      return {s.select(narrow, bottom, s.constant(-1)), s.select(narrow, top, s.constant(1)), varies,
              either(nan, infinite(x[0]))};
    }
    case Function::Tanh: return about({s.constant(-1), s.constant(1), varies, nan});
    case Function::Sin:
    case Function::Cos: return about({s.constant(-1), s.constant(1), varies, either(nan, infinite(x[0]))});
    case Function::Rsqrt:
      return {zero, s.constant(infinity), varies, either(nan, s.map(Function::Lt, {x[0].lo, zero}))};
    case Function::Pow: return whole(op.getType(), varies);
    case Function::Lt:
    case Function::Le:
      return {both(negate(nan), call(f, {x[0].hi, x[1].lo})), call(f, {x[0].lo, x[1].hi}), s.constantBool(false), {}};
    case Function::Gt:
    case Function::Ge:
      return {both(negate(nan), call(f, {x[0].lo, x[1].hi})), call(f, {x[0].hi, x[1].lo}), s.constantBool(false), {}};
    case Function::Eq:
    case Function::Ne: {
      Value single = both(s.map(Function::Eq, {x[0].lo, x[0].hi}), s.map(Function::Eq, {x[1].lo, x[1].hi}));
      Value always = both(negate(nan), both(single, s.map(Function::Eq, {x[0].lo, x[1].lo})));
      Value possible = both(s.map(Function::Le, {x[0].lo, x[1].hi}), s.map(Function::Le, {x[1].lo, x[0].hi}));
      Value no = s.constantBool(false);
      if (f == Function::Eq) return {always, possible, no, {}};
      return {negate(possible), negate(always), no, {}};
    }
    case Function::And: return {both(x[0].lo, x[1].lo), both(x[0].hi, x[1].hi), s.constantBool(false), {}};
    case Function::Or: return {either(x[0].lo, x[1].lo), either(x[0].hi, x[1].hi), s.constantBool(false), {}};
    case Function::Not: return {negate(x[0].hi), negate(x[0].lo), s.constantBool(false), {}};
    case Function::Select: {
      Value lo = s.select(x[0].lo, x[1].lo, s.select(x[0].hi, least(x[1].lo, x[2].lo), x[2].lo));
      Value hi = s.select(x[0].lo, x[1].hi, s.select(x[0].hi, greatest(x[1].hi, x[2].hi), x[2].hi));
      auto of = [&](Value yes, Value no) { return either(both(x[0].hi, yes), both(negate(x[0].lo), no)); };
      return {lo, hi, of(x[1].varies, x[2].varies), real ? of(nanOf(x[1]), nanOf(x[2])) : Value()};
    }
    case Function::ToFloat:
      if (x[0].lo.getType().isInteger(1))
        return {s.select(x[0].lo, s.constant(1), s.constant(0)),
                s.select(x[0].hi, s.constant(1), s.constant(0)),
                varies,
                {}};
      return rising({});
  }
  return whole(op.getType(), varies);
}

}  // namespace weft
