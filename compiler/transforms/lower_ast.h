// Checked AST to the `weft` dialect: `@forward` and, where the variant has one, `@sink`.
#pragma once

#include "compiler/language/ast.h"
#include "mlir/IR/BuiltinOps.h"

namespace weft {

/// The location of an operation is the variant's name and, as a column of line 1, the byte of the parsed text where its
/// expression begins, from 1.
mlir::OwningOpRef<mlir::ModuleOp> lowerAst(const ast::Variant &variant, mlir::MLIRContext &context);

}  // namespace weft
