// The words of a text, one after the other, and what is said where another was expected.
#pragma once

#include <string>
#include <vector>

#include "compiler/language/diagnostics.h"
#include "compiler/language/lexer.h"

namespace weft {

/// Unwinds to the next `attention`; the diagnostic is already recorded.
struct SyntaxError {};

class TokenStream {
 public:
  TokenStream(std::vector<Token> tokens, Diagnostics &diagnostics)
      : tokens(std::move(tokens)), diagnostics(diagnostics) {}

 protected:
  static constexpr size_t maxName = 100;

  std::vector<Token> tokens;
  size_t position = 0;
  Diagnostics &diagnostics;

  const Token &peek(int ahead = 0) const { return tokens[std::min(position + ahead, tokens.size() - 1)]; }
  bool at(const char *text) const { return peek().text == text && peek().kind != Token::Kind::End; }
  bool accept(const char *text) {
    if (!at(text)) return false;
    ++position;
    return true;
  }
  int lastEnd() const { return position ? tokens[position - 1].range.end : 0; }
  void report(SourceRange range, std::string_view message, std::string_view hint = {}) {
    diagnostics.report(range, message, hint);
  }
  [[noreturn]] void fail(const std::string &expected, std::string_view hint = {});
  Token expect(const char *text, const char *where);
  Token expectName(const char *what);
  /// The value of a token of digits.
  double parseNumber(const Token &token);
  static bool isKeyword(const std::string &word);
};

}  // namespace weft
