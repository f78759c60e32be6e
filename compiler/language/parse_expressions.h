// Recursive descent over expressions.
#pragma once

#include "compiler/language/ast.h"
#include "compiler/language/token_stream.h"

namespace weft {

class ExpressionParser : public TokenStream {
 public:
  using TokenStream::TokenStream;

 protected:
  int depth = 0;
  bool inSelect = false;  ///< pooled rows are known there

  ast::ExprPtr parseExpr();
  ast::ExprPtr parsePrimary();

 private:
  static constexpr int maxDepth = 100;

  ast::ExprPtr parseOr();
  ast::ExprPtr parseAnd();
  ast::ExprPtr parseNot();
  ast::ExprPtr parseComparison();
  ast::ExprPtr parseSum();
  ast::ExprPtr parseProduct();
  ast::ExprPtr parseUnary();
  std::vector<ast::ExprPtr> parseArguments(const char *close);
  ast::ExprPtr parseLeaf();
  ast::ExprPtr readOf(const Token &token, std::vector<ast::ExprPtr> args);
  ast::ExprPtr calledBy(const Token &token, std::vector<ast::ExprPtr> args);
};

}  // namespace weft
