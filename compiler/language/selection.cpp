#include "compiler/language/selection.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "compiler/language/walk.h"

namespace weft::ast {

std::vector<PooledInput> pooledInputs(const Variant &variant) {
  std::vector<PooledInput> list;
  for (const Select &select : variant.selects) {
    Visited seen;
    for (const Keep &keep : select.keeps)
      for (const ExprPtr &expr : {keep.value, keep.amount})
        if (expr)
          argumentsFirst(*expr, seen, [&](const Expr &part) {
            if (part.kind != Expr::Kind::Pooled) return true;
            const bool queries = variant.inputs[part.input].dims[2] == "T";
            const PooledInput pooled{part.pool, part.input, queries ? select.tileQ : select.tileK};
            if (std::find(list.begin(), list.end(), pooled) == list.end()) list.push_back(pooled);
            return true;
          });
  }
  return list;
}

int pooledProducts(const Select &select) {
  Visited seen;
  std::set<std::tuple<Pool, int, Pool, int>> products;
  for (const Keep &keep : select.keeps)
    for (const ExprPtr &expr : {keep.value, keep.amount})
      if (expr)
        argumentsFirst(*expr, seen, [&](const Expr &part) {
          if (part.kind == Expr::Kind::Dot)
            products.insert({part.args[0]->pool, part.args[0]->input, part.args[1]->pool, part.args[1]->input});
          return true;
        });
  return static_cast<int>(products.size());
}

bool holdsDot(const Expr &expr) {
  Visited seen;
  return !argumentsFirst(expr, seen, [](const Expr &part) { return part.kind != Expr::Kind::Dot; });
}

}  // namespace weft::ast
