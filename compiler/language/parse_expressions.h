// Recursive descent over expressions.
#pragma once

#include <map>
#include <set>

#include "compiler/language/ast.h"
#include "compiler/language/definitions.h"
#include "compiler/language/parser.h"
#include "compiler/language/token_stream.h"

namespace weft {

class ExpressionParser : public TokenStream {
 public:
  using TokenStream::TokenStream;

 protected:
  int depth = 0;
  bool inSelect = false;                          ///< pooled rows are known there
  Definitions definitions;                        ///< of the variant
  std::map<std::string, int64_t> wholeConstants;  ///< its ints
  std::set<std::string> dims;                     ///< of its inputs
  std::vector<TermCount> termCounts;              ///< of all variants
  size_t unfolded = 0;                            ///< expressions that calls of them stand for

  ast::ExprPtr parseExpr();
  ast::ExprPtr parsePrimary();
  /// 'def' name '(' [name (',' name)*] ')' '=' expr, from its name on.
  void parseDefinition();
  bool atDefinition() const { return at("def") && peek(1).kind == Token::Kind::Name && peek(2).text == "("; }

 private:
  static constexpr int maxDepth = 100;

  [[noreturn]] void tooDeep(SourceRange range);
  /// What a definition stands for; `wanted`: what an argument is that is read at an index, and no input.
  ast::ExprPtr unfolding(const Definition &definition, const std::vector<ast::ExprPtr> &args, SourceRange range,
                         const std::string &wanted);
  /// `expr`, which is nested no deeper than the parser allows.
  ast::ExprPtr shallow(ast::ExprPtr expr, SourceRange range);
  bool atTerms() const;
  ast::ExprPtr parseTerms();
  int64_t parseTermCount(const Token &word);
  ast::ExprPtr segmentOf(SourceRange range, const std::vector<ast::ExprPtr> &args);
  ast::ExprPtr unfoldedCall(const Token &token, const Definition &definition, const std::vector<ast::ExprPtr> &args);

  ast::ExprPtr parseOr();
  ast::ExprPtr parseAnd();
  ast::ExprPtr parseNot();
  ast::ExprPtr parseComparison();
  ast::ExprPtr parseOperation(int loosest);
  ast::ExprPtr parseUnary();
  std::vector<ast::ExprPtr> parseArguments(const char *close);
  ast::ExprPtr parseLeaf();
  ast::ExprPtr readOf(const Token &token, std::vector<ast::ExprPtr> args);
  ast::ExprPtr calledBy(const Token &token, std::vector<ast::ExprPtr> args);
};

}  // namespace weft
