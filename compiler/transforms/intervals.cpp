#include "compiler/transforms/intervals.h"

#include <cmath>
#include <limits>

#include "compiler/dialect/moved_index.h"
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
    case Function::Log2:
    case Function::Log1p:
    case Function::Sqrt:
    case Function::Rsqrt:
    case Function::Sin:
    case Function::Cos:
    case Function::Tanh:
    case Function::Erf:
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
  if (box.lastHead) known[block.getArgument(1)].hi = box.lastHead;
  known[block.getArgument(2)] = box.i;
  known[block.getArgument(3)] = box.j;
}

Interval IntervalBuilder::point(Value value) {
  return numbers({value, value, s.constantBool(false), {}, dialect::isReal(value.getType()) ? value : Value()});
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
  if (!dialect::isReal(x.lo.getType()) || (isFinite(x.lo) && isFinite(x.hi))) return x;
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
  Value varies = s.constantBool(dialect::isReal(op.getType()));
  llvm::SmallVector<Value> indices;
  Value last;
  int axis = -1;
  if (op.getSegment()) return segmentInterval(op);
  // Of another piece of the sequence nothing is known here: the pair's own kernel says so.
  if (dialect::movedIndices(op)) return whole(op.getType(), varies);
  for (auto [at, index] : llvm::enumerate(op.getIndices())) {
    Interval interval = of(index);
    indices.push_back(interval.lo);
    if (interval.lo == interval.hi) continue;
    if (axis >= 0) return whole(op.getType(), varies);
    axis = static_cast<int>(at);
    last = interval.hi;
  }
  if (axis < 0) {
    Value value = dialect::ReadOp::create(s.builder, s.loc, op.getType(), op.getInput(), indices, false);
    return {value, value, varies, {}, dialect::isReal(op.getType()) ? value : Value()};
  }
  auto range =
      tile::ReadRangeOp::create(s.builder, s.loc, op.getType(), op.getType(), op.getInput(), axis, last, indices);
  return {range.getLeast(), range.getGreatest(), varies, {}};
}

/// Bisection goes no further to the left for a greater number, whatever the offsets are.
Interval IntervalBuilder::segmentInterval(dialect::ReadOp op) {
  Value varies = s.constantBool(false);
  llvm::SmallVector<Value> least, greatest;
  for (Value index : op.getIndices()) {
    const Interval interval = of(index);
    const bool number = index == op.getIndices().back();
    if (!number && interval.lo != interval.hi) return whole(op.getType(), varies);
    least.push_back(interval.lo);
    greatest.push_back(interval.hi);
  }
  auto at = [&](llvm::ArrayRef<Value> indices) -> Value {
    return dialect::ReadOp::create(s.builder, s.loc, op.getType(), op.getInput(), indices, true);
  };
  Value first = at(least);
  return {first, least == greatest ? first : at(greatest), varies, {}};
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
  if (!dialect::isReal(op.getType())) return {value, value, s.constantBool(false), {}};
  return {value, value, boundsOf(op).varies, {}, value};
}

Value IntervalBuilder::same(dialect::MapOp op, mlir::ValueRange args) {
  Value value = s.map(op.function(), args);
  if (auto map = value.getDefiningOp<dialect::MapOp>(); map && op.getExact()) map.setExact(true);
  return value;
}

}  // namespace weft
