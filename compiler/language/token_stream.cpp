#include "compiler/language/token_stream.h"

#include <charconv>
#include <cmath>
#include <set>

namespace weft {

bool TokenStream::isKeyword(const std::string &word) {
  static const std::set<std::string> keywords = {"attention", "const", "let",     "where",     "score",  "weight",
                                                 "gate",      "sink",  "dropout", "normalize", "select", "mod",
                                                 "and",       "or",    "not",     "if",        "then",   "else",
                                                 "true",      "false", "b",       "h",         "i",      "j"};
  return keywords.count(word) > 0;
}

/// What those who write another language meant by `token`.
static std::string_view hintFor(std::string_view token) {
  for (auto [word, hint] : {std::pair<std::string_view, std::string_view>{
                                "//", "a comment begins with //; ints are divided by div, as in: i div 64"},
                            {"&&", "write: a and b"},
                            {"||", "write: a or b"},
                            {"!", "write: not a"},
                            {"~", "write: not a"},
                            {"**", "write: pow(a, b)"},
                            {"#", "a comment begins with //"},
                            {"?", "write: if c then a else b"}})
    if (token == word) return hint;
  return {};
}

void TokenStream::fail(const std::string &expected, std::string_view hint) {
  if (auto habit = hintFor(peek().text); !habit.empty()) hint = habit;
  report(peek().range,
         "expected " + expected + ", got " +
             (peek().kind == Token::Kind::End ? "the end of the file" : "'" + peek().text + "'"),
         hint);
  throw SyntaxError();
}

Token TokenStream::expect(const char *text, const char *where) {
  if (!at(text)) fail(std::string("'") + text + "' " + where);
  return tokens[position++];
}

Token TokenStream::expectName(const char *what) {
  if (peek().kind != Token::Kind::Name) fail(what);
  if (isKeyword(peek().text)) fail(what, "'" + peek().text + "' is a word of the language; choose another name");
  if (peek().text.size() > maxName) fail("a name of at most " + std::to_string(maxName) + " characters");
  return tokens[position++];
}

double TokenStream::parseNumber(const Token &token) {
  // The host process may have set a locale whose decimal point is a comma; from_chars knows none.
  double value = 0;
  const bool read = std::from_chars(token.text.data(), token.text.data() + token.text.size(), value).ec == std::errc();
  if (!read || !std::isfinite(static_cast<float>(value))) {
    report(token.range, "expected a finite number that fits f32, got '" + token.text + "'");
    return 0;
  }
  return value;
}

}  // namespace weft
