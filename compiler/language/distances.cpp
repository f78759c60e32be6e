#include "compiler/language/distances.h"

#include "compiler/language/walk.h"

namespace weft::ast {

bool seesDistancesAlone(const Variant &variant) {
  // Other keys, lists and selections go by places.
  if (variant.sets.size() > 1 || variant.keys || !variant.selects.empty()) return false;
  Visited seen, positions, fine;
  auto isPosition = [](const Expr &expr) {
    return expr.kind == Expr::Kind::Index && (expr.index == Index::i || expr.index == Index::j);
  };
  auto look = [&](const Expr &expr) {
    if (isPosition(expr)) positions.insert(&expr);
    const bool difference = expr.kind == Expr::Kind::Call && expr.function == Function::Sub &&
                            isPosition(*expr.args[0]) && isPosition(*expr.args[1]) &&
                            expr.args[0]->index != expr.args[1]->index;
    if (difference) fine.insert({expr.args[0].get(), expr.args[1].get()});
    if (expr.kind == Expr::Kind::Dot)
      for (const ExprPtr &row : expr.args)
        for (const ExprPtr &index : row->args) fine.insert(index.get());
    // i >= j and its like are distances compared with 0.
    const bool comparison = expr.kind == Expr::Kind::Call && expr.args.size() == 2 && expr.type == Type::Bool;
    if (comparison && isPosition(*expr.args[0]) && isPosition(*expr.args[1]))
      fine.insert({expr.args[0].get(), expr.args[1].get()});
    return true;
  };
  const KeySet &set = variant.sets[0];
  for (const ExprPtr &expr : {set.score, set.weight, set.gate, variant.sink})
    if (expr) argumentsFirst(*expr, seen, look);
  for (const ExprPtr &where : set.wheres) argumentsFirst(*where, seen, look);
  for (const Expr *position : positions)
    if (!fine.count(position)) return false;
  return true;
}

}  // namespace weft::ast
