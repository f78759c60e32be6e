// Resolves the names of an expression and gives it a type.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>

#include "compiler/language/ast.h"
#include "compiler/language/diagnostics.h"

namespace weft {

/// What names mean where an expression stands.
struct Scope {
  std::set<std::string> dims;
  std::map<std::string, ast::ExprPtr> lets;
  ast::KeySet *set = nullptr;  ///< whose keys j counts
  bool selecting = false;
  bool keysAlone = false;  ///< of a select: a tile holds one key
};

class ExpressionChecker {
 public:
  ExpressionChecker(ast::Variant &variant, Diagnostics &diagnostics, const Scope &scope)
      : variant(variant), diagnostics(diagnostics), scope(scope) {}

  /// Gives `expr` a type; Unknown where an error was reported below it.
  void check(ast::ExprPtr &expr);
  ast::ExprPtr toFloat(const ast::ExprPtr &expr);
  ast::ExprPtr toNumber(const ast::ExprPtr &expr);  ///< of a condition: 1 where it holds, else 0
  bool causal();                                    ///< once the wheres are checked

 private:
  ast::Variant &variant;
  Diagnostics &diagnostics;
  const Scope &scope;
  std::optional<bool> knownCausal;

  void report(SourceRange range, std::string_view message, std::string_view hint = {}) {
    diagnostics.report(range, message, hint);
  }
  void checkName(ast::ExprPtr &expr);
  void checkRead(ast::Expr &expr);
  void checkDot(ast::Expr &expr);
  void checkCall(ast::Expr &expr);
  void checkPooled(ast::Expr &expr);
  bool comparesExactly(const ast::Expr &expr);
  int rowSide(const ast::Expr &expr);
};

}  // namespace weft
