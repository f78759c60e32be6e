// The way from a checked variant to code: every pass, in order.
#pragma once

#include <memory>
#include <set>

#include "compiler/compiler.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"

namespace weft {

/// Throws InternalError where a stage fails.
CompileResult runPipeline(const CompileRequest &request);

/// A module and what owns what it is made of.
struct OwnedModule {
  std::unique_ptr<mlir::MLIRContext> context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
};
/// The kernel of a request in the `tile` dialect, whatever the request's stage. Throws InternalError where a stage
/// fails.
OwnedModule buildTiles(const CompileRequest &request);

/// Facts of a variant that its callers need, found with the same analyses.
struct VariantFacts {
  std::set<std::string> lists;             ///< dims of the keys whose kept tiles come as lists
  std::map<std::string, std::string> per;  ///< small input: head, query, key or any
};
VariantFacts analyse(const ast::Variant &variant);

}  // namespace weft
