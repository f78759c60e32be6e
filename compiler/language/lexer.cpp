#include "compiler/language/lexer.h"

namespace weft {
namespace {

bool isDigit(char c) { return c >= '0' && c <= '9'; }
bool startsName(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool isSpace(char c) { return c == ' ' || c == '\t' || c == '\r'; }

/// True for a comment, source[begin, end), that another language would take for a division: behind an operand it is a
/// number, or begins with an operand and what stands behind one. `i // 64` would silently be i.
bool readsLikeDivision(std::string_view source, const std::vector<Token> &tokens, int begin, int end) {
  if (tokens.empty()) return false;
  const Token &before = tokens.back();
  const bool operand = before.kind == Token::Kind::Name || before.kind == Token::Kind::Integer ||
                       before.kind == Token::Kind::Real || before.text == ")" || before.text == "]";
  if (!operand || source.substr(before.range.end, begin - before.range.end).find('\n') != std::string_view::npos)
    return false;
  int at = begin + 2;
  while (at < end && isSpace(source[at])) ++at;
  const int word = at;
  while (at < end && (startsName(source[at]) || isDigit(source[at]))) ++at;
  if (at == word) return false;
  while (at < end && isSpace(source[at])) ++at;
  if (at == end) return isDigit(source[word]);
  const std::string_view rest = source.substr(at, end - at);
  for (std::string_view next : {")", "]", "==", "!=", "<", ">", "+ ", "* ", "% "})
    if (rest.starts_with(next)) return true;
  return false;
}

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  std::vector<Token> tokens;
  const int size = static_cast<int>(source.size());
  // Editors on Windows put a byte order mark first.
  int at = source.starts_with("\xEF\xBB\xBF") ? 3 : 0;
  auto peek = [&](int ahead) { return at + ahead < size ? source[at + ahead] : '\0'; };
  auto push = [&](Token::Kind kind, int begin) {
    tokens.push_back({kind, std::string(source.substr(begin, at - begin)), {begin, at}});
  };
  while (at < size) {
    const char c = source[at];
    const int begin = at;
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
      ++at;
    } else if (c == '/' && peek(1) == '/') {
      while (at < size && source[at] != '\n') ++at;
      if (readsLikeDivision(source, tokens, begin, at)) {
        at = begin + 2;
        push(Token::Kind::Bad, begin);
      }
    } else if (startsName(c)) {
      while (at < size && (startsName(source[at]) || isDigit(source[at]))) ++at;
      push(Token::Kind::Name, begin);
    } else if (c == '.' && peek(1) == '.') {
      at += 2;
      push(Token::Kind::Punctuation, begin);
    } else if (isDigit(c) || (c == '.' && isDigit(peek(1)))) {
      bool real = false;
      while (isDigit(peek(0))) ++at;
      if (peek(0) == '.' && peek(1) != '.') {
        real = true;
        ++at;
        while (isDigit(peek(0))) ++at;
      }
      if ((peek(0) == 'e' || peek(0) == 'E') &&
          (isDigit(peek(1)) || ((peek(1) == '+' || peek(1) == '-') && isDigit(peek(2))))) {
        real = true;
        at += 2;
        while (isDigit(peek(0))) ++at;
      }
      push(real ? Token::Kind::Real : Token::Kind::Integer, begin);
    } else if (((c == '<' || c == '>' || c == '=' || c == '!') && peek(1) == '=') ||
               (peek(1) == c && std::string_view("<>&|*").find(c) != std::string_view::npos)) {
      at += 2;
      push(Token::Kind::Punctuation, begin);
    } else if (std::string_view("()[]{}:,=+-*/%&|^<>").find(c) != std::string_view::npos) {
      ++at;
      push(Token::Kind::Punctuation, begin);
    } else {
      ++at;
      // A multi-byte character is one bad token, not several.
      while (at < size && (static_cast<unsigned char>(source[at]) & 0xC0) == 0x80) ++at;
      push(Token::Kind::Bad, begin);
    }
  }
  tokens.push_back({Token::Kind::End, "end of file", {size, size}});
  return tokens;
}

}  // namespace weft
