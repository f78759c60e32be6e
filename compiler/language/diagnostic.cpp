// Locates byte ranges in source text and renders diagnostics with a caret.
#include "compiler/diagnostic.h"

#include <algorithm>

namespace weft {

Diagnostic makeDiagnostic(std::string_view source, std::string_view file, SourceRange range,
                          std::string message, std::string hint) {
  const int size = static_cast<int>(source.size());
  const int begin = std::clamp(range.begin, 0, size);
  const int end = std::clamp(range.end, begin, size);
  Diagnostic result;
  result.file = file;
  result.message = std::move(message);
  result.hint = std::move(hint);
  int lineStart = 0;
  for (int at = 0; at < begin; ++at)
    if (source[at] == '\n') {
      ++result.line;
      lineStart = at + 1;
    }
  size_t lineEnd = source.find('\n', lineStart);
  if (lineEnd == std::string_view::npos) lineEnd = source.size();
  result.lineText = source.substr(lineStart, lineEnd - lineStart);
  result.column = begin - lineStart + 1;
  result.length = std::max(1, std::min<int>(end, static_cast<int>(lineEnd)) - begin);
  return result;
}

std::string render(const Diagnostic &diagnostic) {
  // Long lines (a fuzzed or generated text) are cut around the caret.
  constexpr int window = 160;
  int start = std::max(0, diagnostic.column - 1 - window / 2);
  std::string line = diagnostic.lineText.substr(
      std::min<size_t>(start, diagnostic.lineText.size()), window);
  std::string pad;
  for (int at = 0; at < diagnostic.column - 1 - start && at < static_cast<int>(line.size()); ++at)
    pad += line[at] == '\t' ? '\t' : ' ';
  for (char &c : line)
    if (c != '\t' && (static_cast<unsigned char>(c) < 32 || c == 127)) c = '?';
  std::string text = diagnostic.file + ":" + std::to_string(diagnostic.line) + ":" +
                     std::to_string(diagnostic.column) + ": error: " + diagnostic.message + "\n  " +
                     line + "\n  " + pad + "^" +
                     std::string(std::min(diagnostic.length, window) - 1, '~') + "\n";
  if (!diagnostic.hint.empty()) text += "  hint: " + diagnostic.hint + "\n";
  return text;
}

std::string render(const std::vector<Diagnostic> &diagnostics) {
  std::string text;
  for (const Diagnostic &diagnostic : diagnostics) text += render(diagnostic);
  return text;
}

}  // namespace weft
