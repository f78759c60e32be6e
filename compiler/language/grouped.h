// Heads of a group as the queries of a call (see compiler/grouped.h).
#pragma once

#include "compiler/language/ast.h"

namespace weft::ast {

/// Why a checked variant cannot be `grouped`: "expected no 'grouped' in a variant with" this; null where it can.
const char *notGrouped(const Variant &variant);
/// Gives the inputs of a checked variant, in which placeIndices has done its work, their dims, and h in every statement
/// the text's meaning.
void groupHeads(Variant &variant);

}  // namespace weft::ast
