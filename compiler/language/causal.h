// Whether a variant is causal by the form of its masks: what chooses tiles must then not look ahead.
#pragma once

#include "compiler/language/ast.h"

namespace weft::ast {

/// True where a checked `where` says that a query sees no key after it: i >= j, j < i, i - j >= 0 and the like, through
/// lets and `and`. False for masks that keep no later key in another form.
bool saysCausal(const Variant &variant);

}  // namespace weft::ast
