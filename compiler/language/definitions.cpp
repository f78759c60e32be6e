#include "compiler/language/definitions.h"

#include <algorithm>
#include <unordered_map>

#include "compiler/language/nodes.h"
#include "compiler/language/walk.h"

namespace weft {

using ast::Expr;
using ast::ExprPtr;

/// True for what means something by its name: a name, an input that is read or pooled.
static bool named(const Expr &expr) {
  return expr.kind == Expr::Kind::Name || expr.kind == Expr::Kind::Read || expr.kind == Expr::Kind::Pooled;
}

ExprPtr unfold(const Definition &definition, const std::vector<ExprPtr> &args, size_t &unfolded) {
  std::unordered_map<const Expr *, ExprPtr> copies;
  auto argumentOf = [&](const Expr &expr) -> ExprPtr {
    const auto found = std::ranges::find(definition.parameters, expr.name);
    return found == definition.parameters.end() ? nullptr : args[found - definition.parameters.begin()];
  };
  ast::Visited visited;
  const bool done = argumentsFirst(*definition.body, visited, [&](const Expr &expr) {
    ExprPtr &copy = copies[&expr];
    const ExprPtr argument = named(expr) ? argumentOf(expr) : nullptr;
    if (argument && expr.kind == Expr::Kind::Name) {
      copy = argument;
      return true;
    }
    if (argument && argument->kind != Expr::Kind::Name) throw NoInput{argument};
    if (++unfolded > mostUnfolded) return false;
    copy = ast::makeNode(expr.kind, expr.range, expr.type);
    copy->value = expr.value;
    copy->name = argument ? argument->name : expr.name;
    copy->index = expr.index;
    copy->function = expr.function;
    copy->pool = expr.pool;
    copy->segment = expr.segment;
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
