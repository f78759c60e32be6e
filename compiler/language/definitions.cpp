#include "compiler/language/definitions.h"

#include <algorithm>
#include <unordered_map>

#include "compiler/language/walk.h"

namespace weft {

using ast::Expr;
using ast::ExprPtr;

ExprPtr unfold(const Definition &definition, const std::vector<ExprPtr> &args, size_t &unfolded) {
  std::unordered_map<const Expr *, ExprPtr> copies;
  auto argumentOf = [&](const Expr &expr) -> ExprPtr {
    if (expr.kind != Expr::Kind::Name) return nullptr;
    const auto found = std::ranges::find(definition.parameters, expr.name);
    return found == definition.parameters.end() ? nullptr : args[found - definition.parameters.begin()];
  };
  ast::Visited visited;
  const bool done = argumentsFirst(*definition.body, visited, [&](const Expr &expr) {
    ExprPtr &copy = copies[&expr];
    copy = argumentOf(expr);
    if (copy) return true;
    if (++unfolded > mostUnfolded) return false;
    copy = std::make_shared<Expr>();
    copy->kind = expr.kind;
    copy->range = expr.range;
    copy->type = expr.type;
    copy->value = expr.value;
    copy->name = expr.name;
    copy->index = expr.index;
    copy->function = expr.function;
    copy->pool = expr.pool;
    for (const ExprPtr &arg : expr.args) copy->args.push_back(copies.at(arg.get()));
    return true;
  });
  return done ? copies.at(definition.body.get()) : nullptr;
}

int depthOf(const Expr &root) {
  std::unordered_map<const Expr *, int> depths;
  ast::Visited visited;
  argumentsFirst(root, visited, [&](const Expr &expr) {
    int depth = 0;
    for (const ExprPtr &arg : expr.args) {
      const bool chain = expr.kind == Expr::Kind::Call && arg == expr.args[0] && arg->kind == Expr::Kind::Call;
      depth = std::max(depth, depths.at(arg.get()) + (chain ? 0 : 1));
    }
    depths[&expr] = depth;
    return true;
  });
  return depths.at(&root);
}

}  // namespace weft
