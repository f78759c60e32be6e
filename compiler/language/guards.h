// `if c then table[d] else 0`: an index behind a condition counts only where the condition holds.
#pragma once

#include "compiler/language/ast.h"

namespace weft::ast {

/// Gives every index of a checked variant that stands behind an `if`, an `and` or an `or`, wherever it is used, the
/// value 0 where the condition says that it does not count: there it may leave its dim. What is read by the query's or
/// key's own position stays as it is.
void guardIndices(Variant &variant);

}  // namespace weft::ast
