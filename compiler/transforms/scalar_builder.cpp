#include "compiler/transforms/scalar_builder.h"

#include <map>

#include "mlir/IR/Matchers.h"
#include "llvm/ADT/DenseSet.h"

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

mlir::Value ScalarBuilder::constant(double value) {
  return mlir::arith::ConstantOp::create(builder, loc, builder.getF32FloatAttr(value));
}
mlir::Value ScalarBuilder::constantInt(int64_t value) {
  return mlir::arith::ConstantOp::create(builder, loc, builder.getI32IntegerAttr(value));
}
mlir::Value ScalarBuilder::constantBool(bool value) {
  return mlir::arith::ConstantOp::create(builder, loc, builder.getBoolAttr(value));
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
  return dialect::MapOp::create(builder, loc, type, id, args);
}

/// True for what is made of constants and dims alone.
static bool isUniform(mlir::Value value) {
  llvm::SmallVector<mlir::Value> open{value};
  llvm::DenseSet<mlir::Value> seen;
  while (!open.empty()) {
    mlir::Value part = open.pop_back_val();
    if (!seen.insert(part).second) continue;
    mlir::Operation *op = part.getDefiningOp();
    if (op && mlir::isa<mlir::arith::ConstantOp, dialect::DimOp>(op)) continue;
    if (!op || !mlir::isa<dialect::MapOp>(op)) return false;
    open.append(op->operand_begin(), op->operand_end());
  }
  return true;
}

mlir::Value ScalarBuilder::toBase2(mlir::Value a) {
  constexpr double log2e = 1.44269504088896341;
  if (auto product = a.getDefiningOp<dialect::MapOp>(); product && functionOf(product) == Function::Mul)
    for (unsigned side : {0u, 1u})
      if (isUniform(product.getArgs()[side]))
        return mul(product.getArgs()[1 - side], mul(product.getArgs()[side], constant(log2e)));
  return mul(a, constant(log2e));
}

}  // namespace weft
