#include "compiler/transforms/intervals.h"

#include <limits>

#include "compiler/transforms/operands_first.h"
#include "mlir/IR/Matchers.h"

namespace weft {

using mlir::Value;

IntervalBuilder::IntervalBuilder(ScalarBuilder &scalar, dialect::PairwiseOp program,
                                 const Box &box)
    : s(scalar) {
  mlir::Block &block = program.getBody().front();
  known[block.getArgument(0)] = point(box.b);
  known[block.getArgument(1)] = point(box.h);
  known[block.getArgument(2)] = box.i;
  known[block.getArgument(3)] = box.j;
}

Interval IntervalBuilder::point(Value value) { return {value, value, s.constantBool(false)}; }

Interval IntervalBuilder::whole(mlir::Type type, Value varies) {
  if (type.isInteger(1)) return {s.constantBool(false), s.constantBool(true), varies};
  if (type.isInteger(32))
    return {s.constantInt(std::numeric_limits<int32_t>::min()),
            s.constantInt(std::numeric_limits<int32_t>::max()), varies};
  const double infinity = std::numeric_limits<double>::infinity();
  return {s.constant(-infinity), s.constant(infinity), varies};
}

Interval IntervalBuilder::of(Value value) {
  operandsFirst(value, [&](Value own) { return known.contains(own); }, [&](Value own) {
    const Interval result = fromOperands(own);
    known[own] = result;
  });
  return known.lookup(value);
}

Interval IntervalBuilder::fromOperands(Value value) {
  mlir::Operation *op = value.getDefiningOp();
  Interval result;
  if (auto map = mlir::dyn_cast<dialect::MapOp>(op)) {
    result = mapInterval(map);
  } else if (auto read = mlir::dyn_cast<dialect::ReadOp>(op)) {
    result = readInterval(read);
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
    Value value =
        dialect::ReadOp::create(s.builder, s.loc, op.getType(), op.getInput(), indices);
    return {value, value, varies};
  }
  auto range = tile::ReadRangeOp::create(s.builder, s.loc, op.getType(), op.getType(),
                                         op.getInput(), axis, last, indices);
  return {range.getLeast(), range.getGreatest(), varies};
}

Interval IntervalBuilder::mapInterval(dialect::MapOp op) {
  const Function f = functionOf(op);
  llvm::SmallVector<Interval, 3> x;
  bool points = true;
  Value varies = s.constantBool(false);
  for (Value arg : op.getArgs()) {
    x.push_back(of(arg));
    points &= x.back().lo == x.back().hi;
    varies = s.map(Function::Or, {varies, x.back().varies});
  }
  auto call = [&](Function g, mlir::ValueRange args) { return s.map(g, args); };
  auto both = [&](Value a, Value b) { return s.map(Function::And, {a, b}); };
  auto negate = [&](Value a) {
    if (auto known = ScalarBuilder::boolOf(a)) return s.constantBool(!*known);
    return s.map(Function::Not, {a});
  };
  auto least = [&](Value a, Value b) { return s.map(Function::Min, {a, b}); };
  auto greatest = [&](Value a, Value b) { return s.map(Function::Max, {a, b}); };
  auto zeroOf = [&](Value like) {
    return like.getType().isF32() ? s.constant(0) : s.constantInt(0);
  };
  // Zero and staying zero: a factor that takes the others with it.
  auto deadZero = [&](const Interval &v) {
    Value zero = zeroOf(v.lo);
    Value isZero = both(s.map(Function::Eq, {v.lo, zero}), s.map(Function::Eq, {v.hi, zero}));
    return both(isZero, negate(v.varies));
  };
  if (points && op.getType().isInteger(32)) {
    llvm::SmallVector<Value> args;
    for (const Interval &v : x) args.push_back(v.lo);
    Value value = call(f, args);
    return {value, value, s.constantBool(false)};
  }
  auto rising = [&] { return Interval{call(f, {x[0].lo}), call(f, {x[0].hi}), varies}; };
  switch (f) {
    case Function::Neg: return {call(f, {x[0].hi}), call(f, {x[0].lo}), varies};
    case Function::Add: return {call(f, {x[0].lo, x[1].lo}), call(f, {x[0].hi, x[1].hi}), varies};
    case Function::Sub: return {call(f, {x[0].lo, x[1].hi}), call(f, {x[0].hi, x[1].lo}), varies};
    case Function::Mul:
    case Function::Div: {
      llvm::SmallVector<Value, 4> corners;
      for (Value a : {x[0].lo, x[0].hi})
        for (Value b : {x[1].lo, x[1].hi}) corners.push_back(call(f, {a, b}));
      Value lo = least(least(corners[0], corners[1]), least(corners[2], corners[3]));
      Value hi = greatest(greatest(corners[0], corners[1]), greatest(corners[2], corners[3]));
      if (f == Function::Mul) {
        if (lo.getType().isF32()) {
          Value dead = s.map(Function::Or, {deadZero(x[0]), deadZero(x[1])});
          varies = both(varies, negate(dead));
          // 0 * infinity: the corners are no bounds, the other factors' values are finite though.
          Value ordered = both(s.map(Function::Eq, {corners[0], corners[0]}),
                               both(s.map(Function::Eq, {corners[1], corners[1]}),
                                    both(s.map(Function::Eq, {corners[2], corners[2]}),
                                         s.map(Function::Eq, {corners[3], corners[3]}))));
          Interval all = whole(lo.getType(), varies);
          Value otherwiseLo = s.select(dead, s.constant(0), all.lo);
          Value otherwiseHi = s.select(dead, s.constant(0), all.hi);
          return {s.select(ordered, lo, otherwiseLo), s.select(ordered, hi, otherwiseHi), varies};
        }
        return {lo, hi, varies};
      }
      Value zero = zeroOf(x[1].lo);
      Value fixed = s.map(Function::Or, {s.map(Function::Gt, {x[1].lo, zero}),
                                         s.map(Function::Lt, {x[1].hi, zero})});
      Interval all = whole(lo.getType(), varies);
      return {s.select(fixed, lo, all.lo), s.select(fixed, hi, all.hi), varies};
    }
    case Function::Mod: {
      // Between 0 and the divisor, whichever its sign.
      Value zero = zeroOf(x[1].lo);
      Value lo = least(zero, x[1].lo), hi = greatest(zero, x[1].hi);
      if (op.getType().isInteger(32) && x[1].lo == x[1].hi) {
        // Between two multiples of a positive divisor it rises.
        Value first = call(f, {x[0].lo, x[1].lo}), last = call(f, {x[0].hi, x[1].lo});
        Value one = both(s.map(Function::Lt, {s.sub(x[0].hi, x[0].lo), x[1].lo}), s.map(Function::Le, {first, last}));
        return {s.select(one, first, lo), s.select(one, last, hi), varies};
      }
      return {lo, hi, varies};
    }
    case Function::Min:
    case Function::Max: {
      // An argument that is never chosen passes no derivative.
      const bool min = f == Function::Min;
      auto chosen = [&](int own) {
        const Interval &a = x[own], &b = x[1 - own];
        return both(a.varies, min ? s.map(Function::Le, {a.lo, b.hi}) : s.map(Function::Ge, {a.hi, b.lo}));
      };
      return {call(f, {x[0].lo, x[1].lo}), call(f, {x[0].hi, x[1].hi}),
              s.map(Function::Or, {chosen(0), chosen(1)})};
    }
    case Function::Clamp: {
      // Outside its bounds a clamp passes no derivative of its argument.
      Value inside = both(s.map(Function::Le, {x[0].lo, x[2].hi}),
                          s.map(Function::Ge, {x[0].hi, x[1].lo}));
      Value bounds = s.map(Function::Or, {x[1].varies, x[2].varies});
      return {call(f, {x[0].lo, x[1].lo, x[2].lo}), call(f, {x[0].hi, x[1].hi, x[2].hi}),
              s.map(Function::Or, {both(x[0].varies, inside), bounds})};
    }
    case Function::Abs: {
      Value zero = zeroOf(x[0].lo);
      Value a = call(f, {x[0].lo}), b = call(f, {x[0].hi});
      Value crosses = both(s.map(Function::Le, {x[0].lo, zero}), s.map(Function::Ge, {x[0].hi, zero}));
      return {s.select(crosses, zero, least(a, b)), greatest(a, b), varies};
    }
    case Function::Relu:
      return {call(f, {x[0].lo}), call(f, {x[0].hi}),
              both(varies, s.map(Function::Gt, {x[0].hi, s.constant(0)}))};
    case Function::Exp:
    case Function::Exp2:
    case Function::Log:
    case Function::Log1p:
    case Function::Sqrt:
    case Function::Sigmoid:
    case Function::Softplus:
    case Function::Floor:
    case Function::Ceil:
    case Function::Round: return rising();
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
      Value top = s.select(passes(0), s.constant(1), greatest(a, b)), bottom = s.select(passes(0.5), s.constant(-1), least(a, b));
      return {s.select(narrow, bottom, s.constant(-1)), s.select(narrow, top, s.constant(1)), varies};
    }
    case Function::Tanh:
    case Function::Sin:
    case Function::Cos: return {s.constant(-1), s.constant(1), varies};
    case Function::Rsqrt: return {s.constant(0), whole(op.getType(), varies).hi, varies};
    case Function::Pow: return whole(op.getType(), varies);
    case Function::Lt:
    case Function::Le: return {call(f, {x[0].hi, x[1].lo}), call(f, {x[0].lo, x[1].hi}), s.constantBool(false)};
    case Function::Gt:
    case Function::Ge: return {call(f, {x[0].lo, x[1].hi}), call(f, {x[0].hi, x[1].lo}), s.constantBool(false)};
    case Function::Eq:
    case Function::Ne: {
      Value single = both(s.map(Function::Eq, {x[0].lo, x[0].hi}), s.map(Function::Eq, {x[1].lo, x[1].hi}));
      Value always = both(single, s.map(Function::Eq, {x[0].lo, x[1].lo}));
      Value possible = both(s.map(Function::Le, {x[0].lo, x[1].hi}), s.map(Function::Le, {x[1].lo, x[0].hi}));
      Value no = s.constantBool(false);
      if (f == Function::Eq) return {always, possible, no};
      return {negate(possible), negate(always), no};
    }
    case Function::And: return {both(x[0].lo, x[1].lo), both(x[0].hi, x[1].hi), s.constantBool(false)};
    case Function::Or:
      return {s.map(Function::Or, {x[0].lo, x[1].lo}), s.map(Function::Or, {x[0].hi, x[1].hi}),
              s.constantBool(false)};
    case Function::Not: return {negate(x[0].hi), negate(x[0].lo), s.constantBool(false)};
    case Function::Select: {
      Value lo = s.select(x[0].lo, x[1].lo, s.select(x[0].hi, least(x[1].lo, x[2].lo), x[2].lo));
      Value hi = s.select(x[0].lo, x[1].hi, s.select(x[0].hi, greatest(x[1].hi, x[2].hi), x[2].hi));
      Value first = both(x[0].hi, x[1].varies), second = both(negate(x[0].lo), x[2].varies);
      return {lo, hi, s.map(Function::Or, {first, second})};
    }
    case Function::ToFloat:
      if (x[0].lo.getType().isInteger(1))
        return {s.select(x[0].lo, s.constant(1), s.constant(0)),
                s.select(x[0].hi, s.constant(1), s.constant(0)), varies};
      return rising();
  }
  return whole(op.getType(), varies);
}

}  // namespace weft
