// Checked AST to the `weft` dialect: `@forward` and, where the variant has one, `@sink`.
#pragma once

#include "compiler/language/ast.h"
#include "mlir/IR/BuiltinOps.h"

namespace weft {

/// Locations of operations are lines and columns of `variant.source`.
mlir::OwningOpRef<mlir::ModuleOp> lowerAst(const ast::Variant &variant, mlir::MLIRContext &context);

}  // namespace weft
