// The way from a checked variant to code: every pass, in order.
#pragma once

#include <set>
#include "compiler/compiler.h"
#include "mlir/IR/MLIRContext.h"

namespace weft {

/// Throws InternalError where a stage fails.
CompileResult runPipeline(const CompileRequest &request);

/// Shared memory of a GPU that a block of a forward or backward kernel takes: of the image that runPipeline would give,
/// without its code. Throws InternalError where a stage fails.
int64_t sharedBytesOf(const CompileRequest &request);

/// Facts of a variant that its callers need, found with the same analyses.
struct VariantFacts {
  std::set<std::string> lists;             ///< dims of the keys whose kept tiles come as lists
  std::map<std::string, std::string> per;  ///< small input: head, query, key or any
};
VariantFacts analyse(const ast::Variant &variant);

}  // namespace weft
