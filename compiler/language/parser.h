// Text to syntax tree. Does not resolve names and does not know types: see checker.h.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "compiler/language/ast.h"
#include "compiler/language/diagnostics.h"

namespace weft {

using ParsedVariants = std::vector<std::shared_ptr<ast::Variant>>;

/// Parses every variant of a text. Never throws; stops at the first syntax error of a variant and
/// goes on with the next `attention`, until there are as many diagnostics as anyone reads.
ParsedVariants parseFile(std::string_view source, Diagnostics &diagnostics);

}  // namespace weft
