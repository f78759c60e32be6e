// A user's mistake: where it is, what is wrong, what would be right.
// Mistakes of the compiler itself are internal errors (compiler/internal_error.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace weft {

/// A half-open byte range of a source text.
struct SourceRange {
  int begin = 0;
  int end = 0;
};

/// One error, tied to the text that caused it. `line` and `column` count from 1; columns and lengths are characters of
/// UTF-8, or bytes that are no part of one. All text is valid UTF-8 without controls, and of bounded length.
struct Diagnostic {
  std::string file;
  int line = 1;
  int column = 1;
  int length = 1;       ///< within the excerpt
  std::string excerpt;  ///< the line or, of a long one, what stands around the place
  int caret = 0;        ///< characters of the excerpt before the place
  std::string message;  ///< "expected X, got Y"
  std::string hint;     ///< a way out; may be empty
};

/// Locates `range` in `source` and builds the diagnostic for it.
Diagnostic makeDiagnostic(std::string_view source, std::string_view file, SourceRange range, std::string_view message,
                          std::string_view hint = {});

/// file:line:column: error: message, the line, and a caret below the range.
std::string render(const Diagnostic &diagnostic);
std::string render(const std::vector<Diagnostic> &diagnostics);

}  // namespace weft
