#include "compiler/language/guards.h"

#include <map>
#include <memory>
#include <tuple>
#include <unordered_map>

#include "compiler/dims.h"
#include "compiler/language/nodes.h"
#include "compiler/language/walk.h"

namespace weft::ast {
namespace {

using Kind = Expr::Kind;

/// The conditions on the way from a statement to an expression that is evaluated only where they hold, from the
/// outermost on.
struct Guard {
  const Guard *outer;
  int depth;
  ExprPtr all;  ///< they all hold
};

class Guards {
 public:
  explicit Guards(Variant &variant) : variant(variant) {}

  /// Of the keys of `set`; expressions of several sets hang on no key.
  void add(const ExprPtr &root, const KeySet &set) {
    if (!root) return;
    argumentsFirst(*root, visited, [&](const Expr &expr) {
      // The variant is ours to complete.
      order.push_back(const_cast<Expr *>(&expr));
      if (expr.kind == Kind::Read && expr.type != Type::Row) keysOf[&expr] = &set;
      return true;
    });
    meet(*root, nullptr);
  }

  void apply() {
    for (auto expr = order.rbegin(); expr != order.rend(); ++expr) passOn(**expr);
    for (const auto &[read, set] : keysOf)
      if (const Guard *own = of.at(read)) guard(*const_cast<Expr *>(read), *own, *set);
  }

 private:
  static constexpr int mostDepth = 64;  ///< more conditions guard no further

  Variant &variant;
  Visited visited;
  std::vector<Expr *> order;  ///< arguments before what uses them
  std::map<const Expr *, const KeySet *> keysOf;
  std::unordered_map<const Expr *, const Guard *> of;  ///< what all uses so far have in common
  std::map<std::tuple<const Guard *, const Expr *, bool>, std::unique_ptr<Guard>> guards;

  /// `outer`, and that `condition` holds or does not.
  const Guard *behind(const Guard *outer, const ExprPtr &condition, bool holds) {
    if (outer && outer->depth >= mostDepth) return outer;
    // Each use of a let is an expression of its own.
    const Expr *named = condition.get();
    while (named->kind == Kind::Let) named = named->args[0].get();
    auto &own = guards[{outer, named, holds}];
    if (!own) {
      ExprPtr all = holds ? condition : makeCall(Function::Not, condition->range, {condition}, Type::Bool);
      if (outer) all = makeCall(Function::And, outer->all->range, {outer->all, all}, Type::Bool);
      own = std::make_unique<Guard>(Guard{outer, outer ? outer->depth + 1 : 1, all});
    }
    return own.get();
  }

  void meet(const Expr &expr, const Guard *guard) {
    auto [entry, fresh] = of.try_emplace(&expr, guard);
    const Guard *&own = entry->second;
    while (own != guard) {
      if (own && (!guard || own->depth >= guard->depth)) own = own->outer;
      else guard = guard->outer;
    }
  }

  /// All that uses `expr` has been seen.
  void passOn(Expr &expr) {
    const Guard *own = of.at(&expr);
    const bool call = expr.kind == Kind::Call;
    for (size_t at = 0; at < expr.args.size(); ++at) {
      const bool chosen = call && expr.function == Function::Select && at > 0;
      const bool second = call && (expr.function == Function::And || expr.function == Function::Or) && at == 1;
      const bool holds = second ? expr.function == Function::And : at == 1;
      meet(*expr.args[at], chosen || second ? behind(own, expr.args[0], holds) : own);
    }
  }

  void guard(Expr &read, const Guard &own, const KeySet &set) {
    const Input &input = variant.inputs.at(static_cast<size_t>(read.input));
    for (size_t at = 0; at < read.args.size(); ++at) {
      const std::string &dim = input.dims[at];
      const Expr &index = *read.args[at];
      const bool place = index.kind == Kind::Index && (index.index == Index::b   ? dim == "B"
                                                       : index.index == Index::h ? isHeadDim(dim)
                                                       : index.index == Index::i ? dim == "T"
                                                                                 : dim == set.dim);
      if (place || (read.segment && at + 1 == read.args.size())) continue;
      read.args[at] = makeCall(Function::Select, own.all->range,
                               {own.all, read.args[at], makeNumber(0, index.range, Type::Int)}, Type::Int);
    }
  }
};

}  // namespace

void guardIndices(Variant &variant) {
  Guards guards(variant);
  for (const KeySet &set : variant.sets) {
    for (const ExprPtr &where : set.wheres) guards.add(where, set);
    for (const ExprPtr &expr : {set.score, set.weight, set.gate}) guards.add(expr, set);
  }
  guards.add(variant.sink, variant.sets[0]);
  for (const Select &select : variant.selects)
    for (const Keep &keep : select.keeps)
      for (const ExprPtr &expr : {keep.value, keep.amount}) guards.add(expr, variant.sets[0]);
  guards.apply();
}

}  // namespace weft::ast
