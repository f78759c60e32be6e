// Text to syntax tree. Does not resolve names and does not know types: see checker.h.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "compiler/language/ast.h"

namespace weft {

struct ParsedFile {
  std::vector<std::shared_ptr<ast::Variant>> variants;
  std::vector<Diagnostic> diagnostics;
};

/// Parses every variant of a text. Never throws; stops at the first syntax error of a variant and
/// goes on with the next `attention`.
ParsedFile parseFile(std::string_view source, std::string_view fileName);

}  // namespace weft
