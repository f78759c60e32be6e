// Text to syntax tree. Does not resolve names and does not know types: see checker.h.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "compiler/language/ast.h"
#include "compiler/language/diagnostics.h"

namespace weft {

using ParsedVariants = std::vector<std::shared_ptr<ast::Variant>>;

/// A number of terms that is the size of a dim, as in any(n < N, ...).
struct TermCount {
  std::string dim;
  SourceRange range;  ///< of the dim's name
};
/// Those of a text, in their order. An expression has two terms for each.
std::vector<TermCount> termCounts(std::string_view source);

/// Parses every variant of a text. Never throws; stops at the first syntax error of a variant and
/// goes on with the next `attention`, until there are as many diagnostics as anyone reads.
ParsedVariants parseFile(std::string_view source, Diagnostics &diagnostics);

}  // namespace weft
