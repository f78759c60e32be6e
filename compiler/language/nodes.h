// Makes expressions: what the parser reads, and what the checker puts in place of it.
#pragma once

#include <utility>

#include "compiler/language/ast.h"

namespace weft::ast {

inline ExprPtr makeNode(Expr::Kind kind, SourceRange range, Type type = Type::Unknown) {
  auto result = std::make_shared<Expr>();
  result->kind = kind;
  result->range = range;
  result->type = type;
  return result;
}

inline ExprPtr makeCall(Function function, SourceRange range, std::vector<ExprPtr> args, Type type = Type::Unknown) {
  ExprPtr result = makeNode(Expr::Kind::Call, range, type);
  result->function = function;
  result->args = std::move(args);
  return result;
}

inline ExprPtr makeNumber(double value, SourceRange range, Type type) {
  ExprPtr result = makeNode(Expr::Kind::Number, range, type);
  result->value = value;
  return result;
}

inline ExprPtr makeDim(const char *name) {
  ExprPtr result = makeNode(Expr::Kind::Dim, {}, Type::Int);
  result->name = name;
  return result;
}

inline ExprPtr makeIndex(Index index, SourceRange range = {}) {
  ExprPtr result = makeNode(Expr::Kind::Index, range, Type::Int);
  result->index = index;
  return result;
}

/// True for a node that is the index alone.
inline bool isIndex(const Expr &expr, Index index) { return expr.kind == Expr::Kind::Index && expr.index == index; }

}  // namespace weft::ast
