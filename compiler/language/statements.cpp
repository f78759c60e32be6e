#include "compiler/statements.h"

#include <algorithm>
#include <set>
#include <utility>

#include "compiler/language/lexer.h"

namespace weft {
namespace {

/// `tokens` end with the brace that ends the variant.
bool begins(const std::vector<Token> &tokens, size_t at) {
  static const std::set<std::string> keywords = {"let",  "where",   "score",     "weight", "gate",
                                                 "sink", "dropout", "normalize", "select"};
  if (tokens[at].kind != Token::Kind::Name) return false;
  auto follows = [&](size_t ahead, const char *text) {
    return at + ahead < tokens.size() && tokens[at + ahead].text == text;
  };
  // Names elsewhere.
  if (tokens[at].text == "def") return follows(2, "(");
  if (tokens[at].text == "also") return follows(2, "{");
  if (tokens[at].text == "keys") return follows(1, "=");
  return keywords.count(tokens[at].text) > 0;
}

}  // namespace

StatementText statementsOf(const Variant &variant) {
  std::vector<Token> tokens = tokenize(variant.source());
  tokens.pop_back();  // the end
  StatementText text;
  size_t at = 0;
  for (; tokens[at].text != "{"; ++at) text.head.push_back(std::move(tokens[at].text));
  int depth = 0;
  for (++at; at + 1 < tokens.size(); ++at) {
    const std::string &word = tokens[at].text;
    if (depth == 0 && begins(tokens, at)) text.statements.push_back({word, {}});
    depth += word == "{" || word == "(" || word == "[";
    depth -= word == "}" || word == ")" || word == "]";
    text.statements.back().words.push_back(word);
  }
  return text;
}

std::string joined(const Words &words, const char *between) {
  std::string text;
  for (const std::string &word : words) text += (text.empty() ? "" : between) + word;
  return text;
}

}  // namespace weft
