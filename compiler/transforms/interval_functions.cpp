// Of each function of the language: bounds of its values from those of its arguments.
#include <limits>

#include "compiler/transforms/intervals.h"

namespace weft {

using mlir::Value;

static constexpr double infinity = std::numeric_limits<double>::infinity();

Interval IntervalBuilder::rising(const Call &call, Value nan) {
  return {on(call, {call.x[0].lo}), on(call, {call.x[0].hi}), call.varies, nan};
}

/// A polynomial does not rise in its last bits, and each target has its own.
Interval IntervalBuilder::about(Interval bounds) {
  auto slack = [&](Value v) { return s.mul(s.map(Function::Abs, {v}), s.constant(1.0 / (1 << 20))); };
  return {s.sub(bounds.lo, slack(bounds.lo)), s.add(bounds.hi, slack(bounds.hi)), bounds.varies, bounds.nan};
}

Interval IntervalBuilder::boundsOfSum(const Call &call) {
  const auto &x = call.x;
  Value nan = call.nan;
  const bool add = call.function == Function::Add;
  // Infinities can cancel.
  if (call.real) nan = either(nan, both(infinite(x[0]), infinite(x[1])));
  return {on(call, {x[0].lo, add ? x[1].lo : x[1].hi}), on(call, {x[0].hi, add ? x[1].hi : x[1].lo}), call.varies, nan};
}

/// Of two numbers, rising or falling in each while the other stands still.
Interval IntervalBuilder::corners(const Call &call) {
  llvm::SmallVector<Value, 4> values;
  for (Value a : {call.x[0].lo, call.x[0].hi})
    for (Value b : {call.x[1].lo, call.x[1].hi}) values.push_back(on(call, {a, b}));
  return {least(least(values[0], values[1]), least(values[2], values[3])),
          greatest(greatest(values[0], values[1]), greatest(values[2], values[3])),
          call.varies,
          {}};
}

Interval IntervalBuilder::boundsOfProduct(const Call &call) {
  const auto &x = call.x;
  Value varies = call.varies;
  Value nan = call.nan;
  const Interval ends = corners(call);
  if (!call.real) return ends;
  Value lo = ends.lo, hi = ends.hi;
  Interval all = whole(lo.getType(), varies);
  Value odd;  // the corners are no bounds
  if (call.function == Function::Mul) {
    // A zero that stays zero takes a finite factor with it.
    auto deadZero = [&](const Interval &v) {
      return both(both(s.map(Function::Eq, {v.lo, call.zero}), s.map(Function::Eq, {v.hi, call.zero})),
                  negate(v.varies));
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

Interval IntervalBuilder::boundsOfRemainder(const Call &call) {
  const auto &x = call.x;
  Value nan = call.nan;
  // Between 0 and the divisor, whichever its sign.
  Value lo = least(call.zero, x[1].lo), hi = greatest(call.zero, x[1].hi);
  if (call.real) {
    // Any number, where the quotient has no digits after the point.
    Value greatestQuotient = s.map(Function::Max, {s.map(Function::Abs, {x[0].lo}), s.map(Function::Abs, {x[0].hi})});
    Value smallest = s.map(Function::Min, {s.map(Function::Abs, {x[1].lo}), s.map(Function::Abs, {x[1].hi})});
    Value safe =
        both(negate(spansZero(x[1])), s.map(Function::Lt, {greatestQuotient, s.mul(smallest, s.constant(1 << 20))}));
    nan = either(nan, either(either(infinite(x[0]), infinite(x[1])), spansZero(x[1])));
    Interval all = whole(lo.getType(), call.varies);
    return {s.select(safe, lo, all.lo), s.select(safe, hi, all.hi), call.varies, nan};
  }
  if (x[1].lo == x[1].hi) {
    // Between two multiples of a positive divisor it rises.
    Value first = on(call, {x[0].lo, x[1].lo}), last = on(call, {x[0].hi, x[1].lo});
    Value one = both(s.map(Function::Lt, {s.sub(x[0].hi, x[0].lo), x[1].lo}), s.map(Function::Le, {first, last}));
    return {s.select(one, first, lo), s.select(one, last, hi), call.varies, {}};
  }
  return {lo, hi, call.varies, {}};
}

/// Of ints, rounded down.
Interval IntervalBuilder::boundsOfQuotient(const Call &call) {
  const auto &x = call.x;
  const Interval ends = corners(call);
  // No further from 0 than the dividend, whatever the divisor; and 0 where it is 0.
  Value most = greatest(s.map(Function::Abs, {x[0].lo}), s.map(Function::Abs, {x[0].hi}));
  Value one = either(s.map(Function::Gt, {x[1].lo, call.zero}), s.map(Function::Lt, {x[1].hi, call.zero}));
  return {s.select(one, ends.lo, s.neg(most)), s.select(one, ends.hi, most), call.varies, {}};
}

Interval IntervalBuilder::boundsOfBits(const Call &call) {
  const auto &x = call.x;
  const Interval all = whole(call.zero.getType(), call.varies);
  Value first = s.map(Function::Ge, {x[0].lo, call.zero}), second = s.map(Function::Ge, {x[1].lo, call.zero});
  if (call.function == Function::BitAnd) {
    // No more than either that is not negative.
    Value hi = least(s.select(first, x[0].hi, all.hi), s.select(second, x[1].hi, all.hi));
    return {s.select(either(first, second), call.zero, all.lo), hi, call.varies, {}};
  }
  // Of two that are not negative no more than their sum, and `or` no less than either.
  Value positive = both(first, second);
  Value lo = call.function == Function::BitOr ? greatest(x[0].lo, x[1].lo) : call.zero;
  return {s.select(positive, lo, all.lo), s.select(positive, s.add(x[0].hi, x[1].hi), all.hi), call.varies, {}};
}

Interval IntervalBuilder::boundsOfExtremum(const Call &call) {
  const auto &x = call.x;
  // An argument that is never chosen passes no derivative.
  const bool min = call.function == Function::Min;
  auto chosen = [&](int own) {
    const Interval &a = x[own], &b = x[1 - own];
    return both(a.varies, min ? s.map(Function::Le, {a.lo, b.hi}) : s.map(Function::Ge, {a.hi, b.lo}));
  };
  Value lo = on(call, {x[0].lo, x[1].lo}), hi = on(call, {x[0].hi, x[1].hi});
  // A NaN as the second argument bounds nothing; as the first one it comes through.
  (min ? hi : lo) = s.select(nanOf(x[1]), min ? x[0].hi : x[0].lo, min ? hi : lo);
  return {lo, hi, either(either(chosen(0), chosen(1)), both(call.nan, call.varies)), x[0].nan};
}

Interval IntervalBuilder::boundsOfClamp(const Call &call) {
  const auto &x = call.x;
  // Outside its bounds a clamp passes no derivative of its argument.
  Value inside = both(s.map(Function::Le, {x[0].lo, x[2].hi}), s.map(Function::Ge, {x[0].hi, x[1].lo}));
  // The upper bound has the last word; a bound that is NaN is not there (see Min and Max).
  Value floor = s.select(nanOf(x[1]), x[0].lo, greatest(x[0].lo, x[1].lo)), lo = least(floor, x[2].lo);
  Value ceiling = greatest(x[0].hi, x[1].hi), hi = s.select(nanOf(x[2]), ceiling, least(ceiling, x[2].hi));
  return {lo, hi, either(both(x[0].varies, either(inside, call.nan)), either(x[1].varies, x[2].varies)), x[0].nan};
}

Interval IntervalBuilder::boundsOfAbs(const Call &call) {
  const auto &x = call.x;
  Value a = on(call, {x[0].lo}), b = on(call, {x[0].hi});
  Value crosses = both(s.map(Function::Le, {x[0].lo, call.zero}), s.map(Function::Ge, {x[0].hi, call.zero}));
  return {s.select(crosses, call.zero, least(a, b)), greatest(a, b), call.varies, call.nan};
}

Interval IntervalBuilder::boundsOfRounded(const Call &call) {
  const auto &x = call.x;
  // Of NaN it is 0.
  Value lo = on(call, {x[0].lo}), hi = on(call, {x[0].hi}), none = s.constantInt(0);
  return {s.select(nanOf(x[0]), least(lo, none), lo), s.select(nanOf(x[0]), greatest(hi, none), hi), call.varies, {}};
}

Interval IntervalBuilder::boundsOfTriangle(const Call &call) {
  const auto &x = call.x;
  // 1 at whole numbers, -1 halfway between, straight lines from one to the next.
  auto passes = [&](double shift) {
    auto turns = [&](Value v) { return s.map(Function::Floor, {shift == 0 ? v : s.sub(v, s.constant(shift))}); };
    return s.map(Function::Lt, {turns(x[0].lo), turns(x[0].hi)});
  };
  Value a = on(call, {x[0].lo}), b = on(call, {x[0].hi});
  // Turns are counted in ints.
  Value narrow = both(s.map(Function::Lt, {s.map(Function::Abs, {x[0].lo}), s.constant(1e9)}),
                      s.map(Function::Lt, {s.map(Function::Abs, {x[0].hi}), s.constant(1e9)}));
  Value top = s.select(passes(0), s.constant(1), greatest(a, b)),
        bottom = s.select(passes(0.5), s.constant(-1), least(a, b));
  return {s.select(narrow, bottom, s.constant(-1)), s.select(narrow, top, s.constant(1)), call.varies,
          either(call.nan, infinite(x[0]))};
}

Interval IntervalBuilder::boundsOfEquality(const Call &call) {
  const auto &x = call.x;
  Value single = both(s.map(Function::Eq, {x[0].lo, x[0].hi}), s.map(Function::Eq, {x[1].lo, x[1].hi}));
  Value always = both(negate(call.nan), both(single, s.map(Function::Eq, {x[0].lo, x[1].lo})));
  Value possible = both(s.map(Function::Le, {x[0].lo, x[1].hi}), s.map(Function::Le, {x[1].lo, x[0].hi}));
  Value no = s.constantBool(false);
  if (call.function == Function::Eq) return {always, possible, no, {}};
  return {negate(possible), negate(always), no, {}};
}

Interval IntervalBuilder::boundsOfChoice(const Call &call) {
  const auto &x = call.x;
  Value lo = s.select(x[0].lo, x[1].lo, s.select(x[0].hi, least(x[1].lo, x[2].lo), x[2].lo));
  Value hi = s.select(x[0].lo, x[1].hi, s.select(x[0].hi, greatest(x[1].hi, x[2].hi), x[2].hi));
  auto of = [&](Value yes, Value no) { return either(both(x[0].hi, yes), both(negate(x[0].lo), no)); };
  return {lo, hi, of(x[1].varies, x[2].varies), call.real ? of(nanOf(x[1]), nanOf(x[2])) : Value()};
}

Interval IntervalBuilder::boundsOf(dialect::MapOp op) {
  Call call{op, op.function(), {}, s.constantBool(false), s.constantBool(false), {}, dialect::isReal(op.getType())};
  for (Value arg : op.getArgs()) {
    const Interval &own = call.x.emplace_back(of(arg));
    call.varies = either(call.varies, own.varies);
    call.nan = either(call.nan, nanOf(own));
  }
  const auto &x = call.x;
  call.zero = dialect::isReal(x[0].lo.getType()) ? s.constant(0) : s.constantInt(0);
  switch (call.function) {
    case Function::Neg: return {on(call, {x[0].hi}), on(call, {x[0].lo}), call.varies, call.nan};
    case Function::Add:
    case Function::Sub: return boundsOfSum(call);
    case Function::Mul:
    case Function::Div: return boundsOfProduct(call);
    case Function::Mod: return boundsOfRemainder(call);
    case Function::FloorDiv: return boundsOfQuotient(call);
    case Function::BitAnd:
    case Function::BitOr:
    case Function::BitXor: return boundsOfBits(call);
    case Function::ShiftLeft:
    case Function::ShiftRight: return corners(call);
    case Function::Min:
    case Function::Max: return boundsOfExtremum(call);
    case Function::Clamp: return boundsOfClamp(call);
    case Function::Abs: return boundsOfAbs(call);
    case Function::Relu:
      return {on(call, {x[0].lo}), on(call, {x[0].hi}),
              both(call.varies, either(call.nan, s.map(Function::Gt, {x[0].hi, call.zero}))), call.nan};
    case Function::Exp:
    case Function::Exp2:
    case Function::Erf:
    case Function::Sigmoid:
    case Function::Softplus: return about(rising(call, call.nan));
    case Function::Log:
    case Function::Log2:
    case Function::Log1p:
    case Function::Sqrt:
      // NaN below the domain; its bounds are then NaN as well and say nothing.
      return about(
          rising(call, either(call.nan, s.map(Function::Lt, {x[0].lo, call.function == Function::Log1p ? s.constant(-1)
                                                                                                       : call.zero}))));
    case Function::Floor:
    case Function::Ceil:
    case Function::Round: return boundsOfRounded(call);
    case Function::Triangle: return boundsOfTriangle(call);
    case Function::Tanh: return about({s.constant(-1), s.constant(1), call.varies, call.nan});
    case Function::Sin:
    case Function::Cos: return about({s.constant(-1), s.constant(1), call.varies, either(call.nan, infinite(x[0]))});
    case Function::Rsqrt:
      return {call.zero, s.constant(infinity), call.varies,
              either(call.nan, s.map(Function::Lt, {x[0].lo, call.zero}))};
    case Function::Pow: return whole(op.getType(), call.varies);
    case Function::Lt:
    case Function::Le:
      return {both(negate(call.nan), on(call, {x[0].hi, x[1].lo})),
              on(call, {x[0].lo, x[1].hi}),
              s.constantBool(false),
              {}};
    case Function::Gt:
    case Function::Ge:
      return {both(negate(call.nan), on(call, {x[0].lo, x[1].hi})),
              on(call, {x[0].hi, x[1].lo}),
              s.constantBool(false),
              {}};
    case Function::Eq:
    case Function::Ne: return boundsOfEquality(call);
    case Function::And: return {both(x[0].lo, x[1].lo), both(x[0].hi, x[1].hi), s.constantBool(false), {}};
    case Function::Or: return {either(x[0].lo, x[1].lo), either(x[0].hi, x[1].hi), s.constantBool(false), {}};
    case Function::Not: return {negate(x[0].hi), negate(x[0].lo), s.constantBool(false), {}};
    case Function::Select: return boundsOfChoice(call);
    case Function::ToFloat:
      if (x[0].lo.getType().isInteger(1))
        return {s.select(x[0].lo, s.constant(1), s.constant(0)),
                s.select(x[0].hi, s.constant(1), s.constant(0)),
                call.varies,
                {}};
      return rising(call, {});
  }
  return whole(op.getType(), call.varies);
}

}  // namespace weft
