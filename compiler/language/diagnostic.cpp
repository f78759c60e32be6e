// Locates byte ranges in source text and renders diagnostics with a caret.
#include "compiler/diagnostic.h"

#include <algorithm>

namespace weft {
namespace {

constexpr size_t excerptBytes = 160, messageBytes = 400;

/// Bytes of the character at `at`; 0 where the bytes there are none: not UTF-8, a control, or one that turns the
/// direction of the text around.
size_t characterAt(std::string_view text, size_t at) {
  const auto byte = [&](size_t n) { return at + n < text.size() ? static_cast<unsigned char>(text[at + n]) : 0u; };
  const unsigned first = byte(0);
  if (first < 0x80) return first >= 32 && first != 127 ? 1 : 0;
  const size_t size = first >= 0xF0 && first < 0xF5   ? 4
                      : first >= 0xE0 && first < 0xF0 ? 3
                      : first >= 0xC2 && first < 0xE0 ? 2
                                                      : 0;
  if (size == 0) return 0;
  uint32_t code = first & (0xFFu >> (size + 1));
  for (size_t n = 1; n < size; ++n) {
    if ((byte(n) & 0xC0) != 0x80) return 0;
    code = code << 6 | (byte(n) & 0x3F);
  }
  const bool valid = code >= (size == 4   ? 0x10000u
                              : size == 3 ? 0x800u
                                          : 0x80u) &&
                     code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
  const bool shown = code >= 0xA0 && !(code >= 0x202A && code <= 0x202E) && !(code >= 0x2066 && code <= 0x2069);
  return valid && shown ? size : 0;
}
/// What one step of a caret passes: a character, or a byte that is none.
size_t stepAt(std::string_view text, size_t at) { return std::max<size_t>(characterAt(text, at), 1); }

int charactersOf(std::string_view text) {
  int count = 0;
  for (size_t at = 0; at < text.size(); at += stepAt(text, at)) ++count;
  return count;
}

/// The text as a terminal or a string of another language can take it.
std::string printable(std::string_view text) {
  std::string result;
  for (size_t at = 0; at < text.size(); at += stepAt(text, at)) {
    const size_t size = characterAt(text, at);
    if (size) result += text.substr(at, size);
    else result += text[at] == '\t' || text[at] == '\n' ? text[at] : '?';
  }
  return result;
}

/// At most `bytes` of a text, whole characters; what quotes a long name is cut.
std::string shortened(std::string_view text, size_t bytes) {
  if (text.size() <= bytes) return printable(text);
  size_t at = 0;
  while (at + stepAt(text, at) <= bytes) at += stepAt(text, at);
  return printable(text.substr(0, at)) + "...";
}

}  // namespace

Diagnostic makeDiagnostic(std::string_view source, std::string_view file, SourceRange range, std::string_view message,
                          std::string_view hint) {
  const size_t begin = std::min<size_t>(static_cast<size_t>(std::max(range.begin, 0)), source.size());
  const size_t end = std::clamp<size_t>(static_cast<size_t>(std::max(range.end, 0)), begin, source.size());
  Diagnostic result;
  result.file = printable(file);
  result.message = shortened(message, messageBytes);
  result.hint = shortened(hint, messageBytes);
  result.line =
      1 + static_cast<int>(std::count(source.begin(), source.begin() + static_cast<std::ptrdiff_t>(begin), '\n'));
  const size_t lineStart = begin == 0 ? 0 : source.rfind('\n', begin - 1) + 1;
  std::string_view line = source.substr(lineStart, std::min(source.find('\n', begin), source.size()) - lineStart);
  if (line.ends_with('\r')) line.remove_suffix(1);
  const size_t column = std::min(begin - lineStart, line.size());
  result.column = charactersOf(line.substr(0, column)) + 1;
  // Of a long line (a fuzzed or generated text) what stands around the place: from a whole character on, to a whole
  // one.
  size_t first = column > excerptBytes / 2 ? column - excerptBytes / 2 : 0;
  if (line.size() <= excerptBytes) first = 0;
  while (first > 0 && first < column && (static_cast<unsigned char>(line[first]) & 0xC0) == 0x80) ++first;
  size_t last = first;
  while (last < line.size() && last + stepAt(line, last) <= std::min(first + excerptBytes, line.size()))
    last += stepAt(line, last);
  result.excerpt = printable(line.substr(first, last - first));
  result.caret = charactersOf(line.substr(first, column - first));
  result.length =
      std::max(1, charactersOf(line.substr(column, std::max(std::min(end - lineStart, last), column) - column)));
  return result;
}

std::string render(const Diagnostic &diagnostic) {
  std::string pad;
  size_t at = 0;
  for (int n = 0; n < diagnostic.caret && at < diagnostic.excerpt.size(); ++n) {
    pad += diagnostic.excerpt[at] == '\t' ? '\t' : ' ';
    at += stepAt(diagnostic.excerpt, at);
  }
  std::string text = diagnostic.file + ":" + std::to_string(diagnostic.line) + ":" + std::to_string(diagnostic.column) +
                     ": error: " + diagnostic.message + "\n  " + diagnostic.excerpt + "\n  " + pad + "^" +
                     std::string(static_cast<size_t>(diagnostic.length - 1), '~') + "\n";
  if (!diagnostic.hint.empty()) text += "  hint: " + diagnostic.hint + "\n";
  return text;
}

std::string render(const std::vector<Diagnostic> &diagnostics) {
  std::string text;
  for (const Diagnostic &diagnostic : diagnostics) text += render(diagnostic);
  return text;
}

}  // namespace weft
