// Whether a variant knows where queries and keys stand by their distances alone.
#pragma once

#include "compiler/language/ast.h"

namespace weft::ast {

/// True where a checked variant uses i and j as i - j or j - i and as rows of its products, and nowhere else: a call
/// without the oldest keys gives a query what they do not reach.
bool seesDistancesAlone(const Variant &variant);

}  // namespace weft::ast
