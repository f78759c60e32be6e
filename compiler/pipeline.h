// The way from a checked variant to code: every pass, in order.
#pragma once

#include <set>
#include "compiler/compiler.h"
#include "mlir/IR/MLIRContext.h"

namespace weft {

/// Throws InternalError where a stage fails.
CompileResult runPipeline(const CompileRequest &request);

/// Facts of a variant that its callers need, found with the same analyses.
struct VariantFacts {
  std::set<std::string> lists;   ///< dims of the keys whose kept tiles come as lists
  std::map<std::string, std::string> per;  ///< small input: head, query, key or any
};
VariantFacts analyse(const ast::Variant &variant);

}  // namespace weft
