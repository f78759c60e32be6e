// Walks expressions as the graph they are: a let stands once, however often it is named. Chains of lets and of
// operators can be as long as a text, so the path is kept beside the stack.
#pragma once

#include <unordered_set>
#include <utility>
#include <vector>

#include "compiler/language/ast.h"

namespace weft::ast {

using Visited = std::unordered_set<const Expr *>;

/// Calls `visit` for each expression below `root` and for `root` itself, arguments before what uses them, from left to
/// right; once each, and not for those in `visited`, to which it adds them. Ends where `visit` gives false, and says
/// so.
template <class Visit>
bool argumentsFirst(const Expr &root, Visited &visited, Visit visit) {
  if (!visited.insert(&root).second) return true;
  std::vector<std::pair<const Expr *, size_t>> path{{&root, 0}};
  while (!path.empty()) {
    const Expr &expr = *path.back().first;
    if (path.back().second < expr.args.size()) {
      const Expr *arg = expr.args[path.back().second++].get();
      if (visited.insert(arg).second) path.push_back({arg, 0});
    } else {
      path.pop_back();
      if (!visit(expr)) return false;
    }
  }
  return true;
}

}  // namespace weft::ast
