// Registration and verifiers of the `weft` dialect. Constraint labels are those of WeftOps.td.
#include <map>

#include "compiler/dialect/dialects.h"
#include "compiler/normalizers/facts.h"

#include "compiler/dialect/WeftDialect.cpp.inc"
#define GET_OP_CLASSES
#include "compiler/dialect/WeftOps.cpp.inc"

namespace weft::dialect {

void WeftDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "compiler/dialect/WeftOps.cpp.inc"
      >();
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

llvm::LogicalResult MapOp::verify() {
  static const std::multimap<std::string, unsigned> arities = {
#define WEFT_FUNCTION(id, spelling, arity, typing) {#id, arity},
#include "compiler/language/functions.def"
#undef WEFT_FUNCTION
  };
  auto found = arities.find(getFunction().str());
  if (found == arities.end())
    return emitOpError("(C1) expected a function of the language, got '") << getFunction() << "'";
  if (found->second != getArgs().size())
    return emitOpError("(C2) expected ") << found->second << " operands, got " << getArgs().size();
  return llvm::success();
}

llvm::LogicalResult RowOp::verify() {
  for (const NormalizerFacts *normalizer : allNormalizers())
    for (const RowState &row : normalizer->rows)
      if (getName() == row.name) return llvm::success();
  return emitOpError("(C1) expected a row of a normaliser, got \"") << getName() << "\"";
}

}  // namespace weft::dialect
