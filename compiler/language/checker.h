// Resolves names, gives every expression a type, and refuses what has no meaning.
#pragma once

#include "compiler/language/ast.h"
#include "compiler/language/diagnostics.h"

namespace weft {

/// Completes `variant` in place, and refuses it too where its kernels would take too long to compile.
void checkVariant(ast::Variant &variant, Diagnostics &diagnostics);

}  // namespace weft
