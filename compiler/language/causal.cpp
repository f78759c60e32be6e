#include "compiler/language/causal.h"

#include <optional>
#include <unordered_map>

#include "compiler/language/walk.h"

namespace weft::ast {
namespace {

/// i times the query's index, j times the key's, and a constant. In double: a chain of lets that double leaves the
/// ints.
struct Affine {
  double i = 0, j = 0, constant = 0;
};

}  // namespace

bool saysCausal(const Variant &variant) {
  std::unordered_map<const Expr *, Affine> affine;
  Visited known, saying;
  auto affineOf = [&](const Expr &expr) -> std::optional<Affine> {
    if (auto found = affine.find(&expr); found != affine.end()) return found->second;
    return std::nullopt;
  };
  auto look = [&](const Expr &expr) {
    if (expr.kind == Expr::Kind::Number) affine[&expr] = {0, 0, expr.value};
    if (expr.kind == Expr::Kind::Index && expr.index == Index::i) affine[&expr] = {1, 0, 0};
    if (expr.kind == Expr::Kind::Index && expr.index == Index::j) affine[&expr] = {0, 1, 0};
    if (expr.kind == Expr::Kind::Let) {
      if (auto value = affineOf(*expr.args[0])) affine[&expr] = *value;
      if (saying.count(expr.args[0].get())) saying.insert(&expr);
    }
    if (expr.kind != Expr::Kind::Call || expr.args.size() != 2) return true;
    if (expr.function == Function::And && (saying.count(expr.args[0].get()) || saying.count(expr.args[1].get())))
      saying.insert(&expr);
    const auto a = affineOf(*expr.args[0]), b = affineOf(*expr.args[1]);
    if (!a || !b) return true;
    const Affine difference{a->i - b->i, a->j - b->j, a->constant - b->constant};
    if (expr.function == Function::Sub) affine[&expr] = difference;
    if (expr.function == Function::Add) affine[&expr] = {a->i + b->i, a->j + b->j, a->constant + b->constant};
    const bool less = expr.function == Function::Lt || expr.function == Function::Le;
    if (!less && expr.function != Function::Gt && expr.function != Function::Ge) return true;
    const double sign = less ? -1 : 1;  // sign * (left - right) >= 0
    if (sign * difference.i == 1 && sign * difference.j == -1 && sign * difference.constant <= 0) saying.insert(&expr);
    return true;
  };
  for (const ExprPtr &where : variant.sets[0].wheres) {
    if (where->type != Type::Bool) continue;
    argumentsFirst(*where, known, look);
    if (saying.count(where.get())) return true;
  }
  return false;
}

}  // namespace weft::ast
