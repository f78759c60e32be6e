// Registration and verifiers of the `weft` dialect. Constraint labels are those of WeftOps.td.
#include "compiler/dialect/dialects.h"
#include "compiler/normalizers/facts.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/ADT/TypeSwitch.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/IR/Matchers.h"

using weft::ast::Function;

// Functions in printed IR are their Ids in functions.def.
static const char *idOf(Function function) {
  switch (function) {
#define WEFT_FUNCTION(id, spelling, arity, typing) \
  case Function::id: return #id;
#include "compiler/language/functions.def"
#undef WEFT_FUNCTION
  }
  return "";
}

#include "compiler/dialect/WeftDialect.cpp.inc"
#include "compiler/dialect/WeftEnums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "compiler/dialect/WeftAttributes.cpp.inc"
#define GET_OP_CLASSES
#include "compiler/dialect/WeftOps.cpp.inc"

namespace weft::dialect {

void WeftDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "compiler/dialect/WeftOps.cpp.inc"
      >();
  addAttributes<
#define GET_ATTRDEF_LIST
#include "compiler/dialect/WeftAttributes.cpp.inc"
      >();
}

mlir::Attribute FunctionAttr::parse(mlir::AsmParser &parser, mlir::Type) {
  llvm::StringRef word;
  const llvm::SMLoc where = parser.getCurrentLocation();
  if (parser.parseKeyword(&word)) return {};
  const auto found = llvm::StringSwitch<std::optional<Function>>(word)
#define WEFT_FUNCTION(id, spelling, arity, typing) .Case(#id, Function::id)
#include "compiler/language/functions.def"
#undef WEFT_FUNCTION
                         .Default(std::nullopt);
  if (found) return get(parser.getContext(), *found);
  parser.emitError(where, "expected a function of the language, got ") << word;
  return {};
}

void FunctionAttr::print(mlir::AsmPrinter &printer) const { printer << idOf(getValue()); }

mlir::FloatType realType(mlir::MLIRContext *context) {
  mlir::Builder builder(context);
  auto *dialect = context->getLoadedDialect<WeftDialect>();
  return dialect && dialect->wide ? builder.getF64Type() : builder.getF32Type();
}

std::optional<double> constantOf(mlir::Value value) {
  mlir::FloatAttr real;
  if (mlir::matchPattern(value, mlir::m_Constant(&real))) return real.getValueAsDouble();
  mlir::IntegerAttr whole;
  if (value.getType().isInteger(32) && mlir::matchPattern(value, mlir::m_Constant(&whole)))
    return static_cast<double>(whole.getInt());
  return std::nullopt;
}

std::optional<bool> boolOf(mlir::Value value) {
  mlir::IntegerAttr attr;
  if (value.getType().isInteger(1) && mlir::matchPattern(value, mlir::m_Constant(&attr)))
    return attr.getValue().getBoolValue();
  return std::nullopt;
}

llvm::LogicalResult PairwiseOp::verify() {
  auto arguments = getBody().front().getArguments();
  bool ok = arguments.size() == 4;
  for (auto argument : arguments) ok &= argument.getType().isInteger(32);
  if (!ok) return emitOpError("(C1) expected four i32 arguments b, h, i, j");
  return llvm::success();
}

llvm::LogicalResult YieldOp::verify() {
  if (getNames().size() != getValues().size())
    return emitOpError("(C1) expected ") << getNames().size() << " values, got " << getValues().size();
  return llvm::success();
}

static mlir::Type resultType(mlir::OpBuilder &builder, Function function, mlir::ValueRange args) {
  switch (function) {
    case Function::Select: return args[1].getType();
    case Function::Floor:
    case Function::Ceil:
    case Function::Round: return builder.getI32Type();
    case Function::Lt:
    case Function::Le:
    case Function::Gt:
    case Function::Ge:
    case Function::Eq:
    case Function::Ne: return builder.getI1Type();
    case Function::ToFloat: return realType(builder.getContext());
    default: return args[0].getType();
  }
}

void MapOp::build(mlir::OpBuilder &builder, mlir::OperationState &state, Function function, mlir::ValueRange args,
                  bool exact) {
  build(builder, state, resultType(builder, function, args), FunctionAttr::get(builder.getContext(), function), exact,
        args);
}

llvm::LogicalResult MapOp::verify() {
  if (const auto arity = static_cast<size_t>(ast::arity(function())); arity != getArgs().size())
    return emitOpError("(C1) expected ") << arity << " operands, got " << getArgs().size();
  return llvm::success();
}

mlir::OpFoldResult MapOp::fold(FoldAdaptor) {
  const auto args = getArgs();
  auto known = [&](size_t at, double value) { return constantOf(args[at]) == value; };
  switch (function()) {
    case Function::Add:
      if (known(0, 0)) return args[1];
      if (known(1, 0)) return args[0];
      return {};
    case Function::Sub: return known(1, 0) ? args[0] : mlir::OpFoldResult();
    case Function::Mul:
      // x * 0 stays: x may be infinite.
      if (known(0, 1)) return args[1];
      if (known(1, 1)) return args[0];
      return {};
    case Function::Div: return known(1, 1) ? args[0] : mlir::OpFoldResult();
    case Function::And:
    case Function::Or: {
      const bool neutral = function() == Function::And;
      for (int side : {0, 1})
        if (auto value = boolOf(args[side])) return *value == neutral ? args[1 - side] : args[side];
      return {};
    }
    case Function::Select:
      if (auto value = boolOf(args[0])) return *value ? args[1] : args[2];
      return args[1] == args[2] ? args[1] : mlir::OpFoldResult();
    default: return {};
  }
}

llvm::LogicalResult RowOp::verify() {
  for (const NormalizerFacts *normalizer : allNormalizers())
    for (const RowState &row : normalizer->rows)
      if (getName() == row.name) return llvm::success();
  return emitOpError("(C1) expected a row of a normaliser, got \"") << getName() << "\"";
}

}  // namespace weft::dialect
