// PTX text as an operation, for what NVVM has no operation of.
#pragma once

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

namespace weft::nvptx {

/// `constraints` as LLVM's inline assembly of NVPTX has them. `sideEffects`: it stays, and in its place. The result is
/// null where `result` is.
inline mlir::Value inlinePtx(mlir::OpBuilder &b, mlir::Location loc, mlir::Type result, const std::string &text,
                             const std::string &constraints, mlir::ValueRange operands, bool sideEffects = true) {
  namespace llvmir = mlir::LLVM;
  const llvm::SmallVector<mlir::Type, 1> results(result ? 1 : 0, result);
  auto op = llvmir::InlineAsmOp::create(b, loc, results, operands, text, constraints, sideEffects,
                                        /*is_align_stack=*/false, llvmir::tailcallkind::TailCallKind::None,
                                        llvmir::AsmDialectAttr(), mlir::ArrayAttr());
  return result ? op->getResult(0) : mlir::Value();
}

}  // namespace weft::nvptx
