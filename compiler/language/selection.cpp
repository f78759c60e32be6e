#include "compiler/language/selection.h"

#include <algorithm>
#include <functional>
#include <set>
#include <tuple>

namespace weft::ast {
namespace {

void collect(const Expr &expr, const Variant &variant, const Select &select, std::set<const Expr *> &seen, std::vector<PooledInput> &list) {
  if (!seen.insert(&expr).second) return;
  if (expr.kind == Expr::Kind::Pooled) {
    const bool queries = variant.inputs[expr.input].dims[2] == "T";
    const PooledInput pooled{expr.pool, expr.input, queries ? select.tileQ : select.tileK};
    if (std::find(list.begin(), list.end(), pooled) == list.end()) list.push_back(pooled);
  }
  for (const ExprPtr &arg : expr.args) collect(*arg, variant, select, seen, list);
}

bool holdsDot(const Expr &expr, std::set<const Expr *> &seen) {
  if (expr.kind == Expr::Kind::Dot) return true;
  if (!seen.insert(&expr).second) return false;
  return std::any_of(expr.args.begin(), expr.args.end(), [&](const ExprPtr &arg) { return holdsDot(*arg, seen); });
}

}  // namespace

std::vector<PooledInput> pooledInputs(const Variant &variant) {
  std::vector<PooledInput> list;
  for (const Select &select : variant.selects) {
    std::set<const Expr *> seen;
    for (const Keep &keep : select.keeps)
      for (const ExprPtr &expr : {keep.value, keep.amount})
        if (expr) collect(*expr, variant, select, seen, list);
  }
  return list;
}

int pooledProducts(const Select &select) {
  std::set<const Expr *> seen;
  std::set<std::tuple<Pool, int, Pool, int>> products;
  std::function<void(const Expr &)> collect = [&](const Expr &expr) {
    if (!seen.insert(&expr).second) return;
    if (expr.kind == Expr::Kind::Dot) products.insert({expr.args[0]->pool, expr.args[0]->input, expr.args[1]->pool, expr.args[1]->input});
    for (const ExprPtr &arg : expr.args) collect(*arg);
  };
  for (const Keep &keep : select.keeps)
    for (const ExprPtr &expr : {keep.value, keep.amount})
      if (expr) collect(*expr);
  return static_cast<int>(products.size());
}

bool holdsDot(const Expr &expr) {
  std::set<const Expr *> seen;
  return holdsDot(expr, seen);
}

}  // namespace weft::ast
