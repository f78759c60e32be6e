#include "compiler/transforms/scalar_builder.h"

#include <numbers>

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallPtrSet.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/IRMapping.h"

namespace weft {

bool canSaturate(Function function) {
  return function == Function::Add || function == Function::Sub || function == Function::Mul ||
         function == Function::Neg || function == Function::Abs || function == Function::FloorDiv ||
         function == Function::ShiftLeft;
}

mlir::Value ScalarBuilder::constant(double value) {
  return mlir::arith::ConstantOp::create(builder, loc,
                                         builder.getFloatAttr(dialect::realType(builder.getContext()), value));
}
mlir::Value ScalarBuilder::constantInt(int64_t value) {
  return mlir::arith::ConstantOp::create(builder, loc, builder.getI32IntegerAttr(value));
}
mlir::Value ScalarBuilder::constantBool(bool value) {
  return mlir::arith::ConstantOp::create(builder, loc, builder.getBoolAttr(value));
}

std::vector<mlir::Value> ScalarBuilder::parts(mlir::Value value, Function joiner) {
  std::vector<mlir::Value> found, left{value};
  llvm::SmallPtrSet<void *, 16> seen;
  while (!left.empty()) {
    mlir::Value next = left.back();
    left.pop_back();
    if (!seen.insert(next.getAsOpaquePointer()).second) continue;
    if (auto map = next.getDefiningOp<dialect::MapOp>(); map && map.function() == joiner)
      left.insert(left.end(), {map.getArgs()[1], map.getArgs()[0]});
    else found.push_back(next);
  }
  return found;
}

mlir::Value ScalarBuilder::map(Function function, mlir::ValueRange args) {
  // Of arithmetic on ints, whose result is of the operands' type.
  const bool exact = ints == Ints::Exact && args[0].getType().isInteger(32) && canSaturate(function);
  return builder.createOrFold<dialect::MapOp>(loc, function, args, exact);
}

std::pair<mlir::Value, mlir::Value> ScalarBuilder::weightedSink(mlir::Value c) {
  // Of ln 2 the upper 13 bits, whose products with the exponent are exact, and the rest.
  constexpr double upper = 0.693115234375, lower = std::numbers::ln2 - upper, most = 60;
  mlir::Value half =
      map(Function::Clamp, {mul(c, constant(0.5 * std::numbers::log2e)), constant(-most), constant(most)});
  mlir::Value great = map(Function::Gt, {map(Function::Abs, {c}), constant(20)});
  mlir::Value exponent = select(great, map(Function::ToFloat, {map(Function::Round, {half})}), constant(0));
  return {sub(sub(c, mul(exponent, constant(upper))), mul(exponent, constant(lower))), exp2(exponent)};
}

/// Constants near 1, so that no product of a few of them leaves the range of f32; `room`: operations left.
static bool isPositiveUniform(mlir::Value value, int &room) {
  if (--room < 0 || !dialect::isReal(value.getType())) return false;
  if (auto known = dialect::constantOf(value)) return *known >= 0x1p-10 && *known <= 0x1p10;
  auto map = value.getDefiningOp<dialect::MapOp>();
  if (!map) return false;
  switch (map.function()) {
    case Function::ToFloat: return map.getArgs()[0].getDefiningOp<dialect::DimOp>() != nullptr;
    case Function::Sqrt:
    case Function::Rsqrt:
    case Function::Mul:
    case Function::Div:
      return llvm::all_of(map.getArgs(), [&](mlir::Value arg) { return isPositiveUniform(arg, room); });
    default: return false;
  }
}

std::pair<mlir::Value, mlir::Value> ScalarBuilder::uniformFactor(mlir::Value value) {
  auto map = value.getDefiningOp<dialect::MapOp>();
  if (map && map.function() == Function::Mul)
    for (unsigned at : {1u, 0u})
      if (int room = 8; isPositiveUniform(map.getArgs()[at], room)) return {map.getArgs()[1 - at], map.getArgs()[at]};
  return {value, mlir::Value()};
}

mlir::Value ScalarBuilder::copyOfUniform(mlir::Value factor) {
  mlir::IRMapping copies;
  mlir::Operation *op = factor.getDefiningOp();
  for (mlir::Value operand : op->getOperands()) copies.map(operand, copyOfUniform(operand));
  return builder.clone(*op, copies)->getResult(0);
}

mlir::Value ScalarBuilder::expOfDifference(mlir::Value a, mlir::Value b) {
  return exp2(mul(sub(a, b), constant(std::numbers::log2e)));
}

bool ScalarBuilder::isSmall(mlir::Value x, mlir::Value factor) {
  auto map = x.getDefiningOp<dialect::MapOp>();
  const bool withinOne = map && (map.function() == Function::Tanh || map.function() == Function::Sigmoid);
  return withinOne && dialect::constantOf(factor).value_or(2048) <= 1024;
}

mlir::Value ScalarBuilder::expBelowPeak(mlir::Value score, mlir::Value peak, mlir::Value factor, bool inRange) {
  mlir::Value scale = mul(factor, constant(std::numbers::log2e));
  if (!inRange) return exp2(mul(sub(score, peak), scale));
  return exp2Below(score, mul(peak, scale), scale);
}

mlir::Value ScalarBuilder::exp2Below(mlir::Value score, mlir::Value product, mlir::Value scale) {
  return exp2(mlir::math::FmaOp::create(builder, loc, score, scale, neg(product)));
}

}  // namespace weft
