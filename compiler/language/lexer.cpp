#include "compiler/language/lexer.h"

#include <algorithm>
#include <unordered_set>

namespace weft {
namespace {

bool isDigit(char c) { return c >= '0' && c <= '9'; }
bool startsName(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

using Names = std::unordered_set<std::string>;

/// True for a comment, source[begin, end), that another language would take for a division: behind an operand it reads
/// as an expression with a number, i, j or one of the `declared` names in it. `i // 64` would silently be i.
bool readsLikeDivision(std::string_view source, const std::vector<Token> &tokens, const Names &declared, int begin,
                       int end) {
  if (tokens.empty()) return false;
  const Token &before = tokens.back();
  const bool operand = before.kind == Token::Kind::Name || before.kind == Token::Kind::Integer ||
                       before.kind == Token::Kind::Real || before.text == ")" || before.text == "]";
  if (!operand || source.substr(before.range.end, begin - before.range.end).find('\n') != std::string_view::npos)
    return false;
  // As an expression: operands, each but the last with an operator behind it, up to the end or what closes it.
  std::string_view text = source.substr(begin + 2, std::min(end - begin - 2, 200));
  text = text.substr(0, text.find("//"));
  const std::vector<Token> words = tokenize(text);
  auto isOperand = [](const Token &token) {
    return token.kind == Token::Kind::Integer || token.kind == Token::Kind::Real || token.kind == Token::Kind::Name;
  };
  auto isOneOf = [](const Token &token, std::initializer_list<std::string_view> texts) {
    return std::ranges::count(texts, token.text) > 0;
  };
  size_t at = 0;
  bool number = false;
  int open = 0;
  for (;;) {
    while (isOneOf(words[at], {"(", "-"})) open += words[at++].text == "(";
    if (!isOperand(words[at])) return false;
    number |= words[at].kind != Token::Kind::Name || isOneOf(words[at], {"i", "j"}) || declared.count(words[at].text);
    ++at;
    while (open > 0 && words[at].text == ")") {
      --open;
      ++at;
    }
    // A closing bracket of what stands before the comment, or a comparison: no words of a sentence.
    if (isOneOf(words[at], {")", "]", "}", "==", "!=", "<", ">", "<=", ">="})) return number;
    if (words[at].kind == Token::Kind::End) return number && open == 0;
    if (!isOneOf(words[at], {"+", "-", "*", "/", "%", "mod", "div"})) return false;
    ++at;
  }
}

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  std::vector<Token> tokens;
  const int size = static_cast<int>(source.size());
  // Editors on Windows put a byte order mark first.
  int at = source.starts_with("\xEF\xBB\xBF") ? 3 : 0;
  auto peek = [&](int ahead) { return at + ahead < size ? source[at + ahead] : '\0'; };
  Names declared;  // constants, inputs and lets
  auto push = [&](Token::Kind kind, int begin) {
    tokens.push_back({kind, std::string(source.substr(begin, at - begin)), {begin, at}});
    if (tokens.size() < 2) return;
    const Token &before = tokens[tokens.size() - 2];
    if (before.text == "const" || before.text == "let") declared.insert(tokens.back().text);
    if (tokens.back().text == ":") declared.insert(before.text);
  };
  while (at < size) {
    const char c = source[at];
    const int begin = at;
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
      ++at;
    } else if (c == '/' && peek(1) == '/') {
      while (at < size && source[at] != '\n') ++at;
      if (readsLikeDivision(source, tokens, declared, begin, at)) {
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
