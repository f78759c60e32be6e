#include "compiler/transforms/scalar_builder.h"

#include <numbers>

#include <map>

#include "llvm/ADT/SmallPtrSet.h"
#include "mlir/IR/Matchers.h"

namespace weft {

static const std::pair<Function, const char *> functionIds[] = {
#define WEFT_FUNCTION(id, spelling, arity, typing) {Function::id, #id},
#include "compiler/language/functions.def"
#undef WEFT_FUNCTION
};

Function functionOf(dialect::MapOp op) {
  for (auto [function, id] : functionIds)
    if (op.getFunction() == id) return function;
  return Function::Neg;
}

bool canSaturate(Function function) {
  return function == Function::Add || function == Function::Sub || function == Function::Mul ||
         function == Function::Neg || function == Function::Abs;
}

mlir::Value ScalarBuilder::constant(double value) {
  return mlir::arith::ConstantOp::create(builder, loc, builder.getF32FloatAttr(value));
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
    if (auto map = next.getDefiningOp<dialect::MapOp>(); map && functionOf(map) == joiner)
      left.insert(left.end(), {map.getArgs()[1], map.getArgs()[0]});
    else found.push_back(next);
  }
  return found;
}

std::optional<double> ScalarBuilder::constantOf(mlir::Value value) {
  mlir::FloatAttr real;
  if (mlir::matchPattern(value, mlir::m_Constant(&real))) return real.getValueAsDouble();
  mlir::IntegerAttr whole;
  if (value.getType().isInteger(32) && mlir::matchPattern(value, mlir::m_Constant(&whole)))
    return static_cast<double>(whole.getInt());
  return std::nullopt;
}
std::optional<bool> ScalarBuilder::boolOf(mlir::Value value) {
  mlir::IntegerAttr attr;
  if (value.getType().isInteger(1) && mlir::matchPattern(value, mlir::m_Constant(&attr)))
    return attr.getValue().getBoolValue();
  return std::nullopt;
}

mlir::Value ScalarBuilder::map(Function function, mlir::ValueRange args) {
  auto known = [&](size_t at, double value) {
    auto found = constantOf(args[at]);
    return found && *found == value;
  };
  mlir::Type type = args[0].getType();
  switch (function) {
    case Function::Add:
      if (known(0, 0)) return args[1];
      if (known(1, 0)) return args[0];
      break;
    case Function::Sub:
      if (known(1, 0)) return args[0];
      break;
    case Function::Mul:
      // x * 0 stays: x may be infinite.
      if (known(0, 1)) return args[1];
      if (known(1, 1)) return args[0];
      break;
    case Function::Div:
      if (known(1, 1)) return args[0];
      break;
    case Function::And:
    case Function::Or: {
      const bool neutral = function == Function::And;
      for (int side : {0, 1})
        if (auto value = boolOf(args[side])) return *value == neutral ? args[1 - side] : args[side];
      break;
    }
    case Function::Select:
      type = args[1].getType();
      if (auto value = boolOf(args[0])) return *value ? args[1] : args[2];
      if (args[1] == args[2]) return args[1];
      break;
    case Function::Floor:
    case Function::Ceil:
    case Function::Round: type = builder.getI32Type(); break;
    case Function::Lt:
    case Function::Le:
    case Function::Gt:
    case Function::Ge:
    case Function::Eq:
    case Function::Ne: type = builder.getI1Type(); break;
    case Function::ToFloat: type = builder.getF32Type(); break;
    default: break;
  }
  const char *id = functionIds[static_cast<int>(function)].second;
  auto op = dialect::MapOp::create(builder, loc, type, id, /*exact=*/false, args);
  if (ints == Ints::Exact && type.isInteger(32) && canSaturate(function)) op.setExact(true);
  return op;
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

mlir::Value ScalarBuilder::expOfDifference(mlir::Value a, mlir::Value b) {
  return exp2(mul(sub(a, b), constant(std::numbers::log2e)));
}

}  // namespace weft
