// Resolves names, gives every expression a type, and refuses what has no meaning.
#pragma once

#include <string_view>
#include <vector>

#include "compiler/language/ast.h"

namespace weft {

/// Completes `variant` in place. `source` is the text its ranges refer to.
std::vector<Diagnostic> checkVariant(ast::Variant &variant, std::string_view source,
                                     std::string_view fileName);

}  // namespace weft
