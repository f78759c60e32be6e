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

/// Those that argumentsFirst would visit, for who completes their variant: expressions may be shared by several, and
/// each changes once.
inline std::vector<Expr *> firstSeen(Expr &root, Visited &visited) {
  std::vector<Expr *> found;
  argumentsFirst(root, visited, [&](const Expr &expr) {
    found.push_back(const_cast<Expr *>(&expr));
    return true;
  });
  return found;
}

/// visit(expr, set) for the root of each statement about pairs, lets among them; null where a set has none. The sink is
/// given the keys of v.
template <class Tree, class Visit>
void eachStatement(Tree &variant, Visit visit) {
  for (auto &set : variant.sets) {
    for (auto &let : set.lets) visit(let.value, set);
    for (auto &where : set.wheres) visit(where, set);
    for (auto *expr : {&set.score, &set.weight, &set.gate}) visit(*expr, set);
  }
  visit(variant.sink, variant.sets[0]);
}

}  // namespace weft::ast
