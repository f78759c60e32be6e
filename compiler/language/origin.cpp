#include "compiler/language/origin.h"

#include <limits>
#include <vector>

#include "compiler/language/nodes.h"
#include "compiler/language/walk.h"
#include "compiler/lengths.h"
#include "compiler/origin.h"

namespace weft {

static constexpr std::string_view parameter = "origin, ", lengthsParameter = "lengths, ";

bool hasLengths(const Variant &variant) { return variant.tree().lengths >= 0; }
std::string sourceWithLengths(const Variant &variant) {
  std::string text = variant.source();
  return text.insert(static_cast<size_t>(variant.tree().parameters), lengthsParameter);
}

bool hasOrigin(const Variant &variant) { return variant.tree().origin; }

std::string sourceWithOrigin(const Variant &variant) { return sourceWithOrigin(variant, variant.source()); }
std::string sourceWithOrigin(const Variant &variant, std::string text) {
  return text.insert(static_cast<size_t>(variant.tree().parameters), parameter);
}
std::string sourceWithoutOrigin(const Variant &variant) {
  std::string text = variant.source();
  const auto at = static_cast<size_t>(variant.tree().parameters);
  if (text.compare(at, parameter.size(), parameter) == 0) text.erase(at, parameter.size());
  return text;
}

Joining joiningOf(const Variant &variant) {
  return variant.tree().keys ? Joining::None : variant.tree().normalizer->joining;
}

/// visit(expr) for each expression of the statements about pairs; those that were seen are left out.
template <class Visit>
static void eachOfPairs(const ast::Variant &tree, ast::Visited &seen, Visit visit) {
  auto look = [&](const ast::ExprPtr &root) {
    if (!root) return;
    ast::argumentsFirst(*root, seen, [&](const ast::Expr &expr) {
      visit(expr);
      return true;
    });
  };
  for (const ast::KeySet &set : tree.sets) {
    for (const ast::ExprPtr &where : set.wheres) look(where);
    for (const ast::ExprPtr &expr : {set.score, set.weight, set.gate}) look(expr);
  }
}

std::set<std::string> rowsReadAlone(const Variant &variant) {
  const ast::Variant &tree = variant.tree();
  std::set<std::string> found;
  ast::Visited seen;
  auto look = [&](const ast::Expr &expr) {
    if (expr.kind == ast::Expr::Kind::Read && expr.type != ast::Type::Row &&
        variant.inputs()[static_cast<size_t>(expr.input)].isRow)
      found.insert(expr.name);
    return true;
  };
  eachOfPairs(tree, seen, look);
  for (const ast::Select &select : tree.selects)
    for (const ast::Keep &keep : select.keeps)
      for (const ast::ExprPtr &expr : {keep.value, keep.amount})
        if (expr) ast::argumentsFirst(*expr, seen, look);
  return found;
}

bool readsOtherQueries(const Variant &variant) {
  const ast::Variant &tree = variant.tree();
  bool found = false;
  ast::Visited seen;
  eachOfPairs(tree, seen, [&](const ast::Expr &expr) {
    if (expr.kind != ast::Expr::Kind::Read) return;
    const std::vector<std::string> &dims = tree.inputs[static_cast<size_t>(expr.input)].dims;
    for (size_t at = 0; at < expr.args.size() && at < dims.size(); ++at)
      found |= dims[at] == "T" &&
               (expr.segment || expr.args[at]->kind != ast::Expr::Kind::Index || expr.args[at]->index != ast::Index::i);
  });
  return found;
}

bool hasOnce(const Variant &variant) { return variant.tree().sink || variant.tree().sets.size() > 1; }

namespace ast {
namespace {

using Kind = Expr::Kind;

/// Of the statements about one set of keys. Expressions may be shared by several: each changes once.
class Placing {
 public:
  explicit Placing(Variant &variant) : variant(variant) {
    if (variant.lengths < 0) return;
    // The newest queries end where their sequence does.
    // Of heads of one group there is one query.
    const ExprPtr queries = variant.grouped ? makeNumber(1, {}, Type::Int) : makeDim("T");
    firstQuery = made(Function::Sub, length(), queries);
    for (const ExprPtr &arg : firstQuery->args) placed.insert(arg.get());
  }

  void place(ExprPtr &root, const KeySet &set) {
    if (!root) return;
    for (Expr *expr : firstSeen(*root, placed)) {
      if (expr->kind == Kind::Dim) placeDim(*expr);
      for (size_t at = 0; at < expr->args.size(); ++at) placeArgument(*expr, at, set);
    }
    root = global(root, set);
  }

  /// Queries and keys outside of the sequence are not there.
  void bound(KeySet &set) {
    auto index = [&](Index own) { return global(makeIndex(own, set.range), set); };
    set.wheres.push_back(
        makeCall(Function::Ge, set.range, {index(Index::i), makeNumber(0, set.range, Type::Int)}, Type::Bool));
    if (ownKeys(set)) set.wheres.push_back(makeCall(Function::Lt, set.range, {index(Index::j), length()}, Type::Bool));
  }

 private:
  Variant &variant;
  Visited placed;
  ExprPtr firstQuery = makeDim(originDims[0]);
  const ExprPtr firstKey = makeDim(originDims[1]);

  ExprPtr length() {
    ExprPtr read = makeNode(Kind::Read, {}, Type::Int);
    beLength(*read);
    return read;
  }
  /// lengths[b]
  void beLength(Expr &expr) {
    expr.kind = Kind::Read;
    expr.name = variant.inputs[variant.lengths].name;
    expr.input = variant.lengths;
    ExprPtr b = makeIndex(Index::b);
    placed.insert(b.get());
    expr.args = {b};
  }
  void placeDim(Expr &expr) {
    if (expr.name != "T" && expr.name != "S") return;
    if (variant.lengths >= 0) beLength(expr);
    else expr.name = originDims[expr.name == "T" ? 2 : 3];
  }

  bool ownKeys(const KeySet &set) const { return &set == &variant.sets[0]; }

  /// Where an expression is the index i or j itself: that of the whole sequence.
  ExprPtr global(const ExprPtr &expr, const KeySet &set) {
    const bool query = isIndex(*expr, Index::i);
    if (!query && !movesKeys(*expr, set)) return expr;
    if (query && variant.grouped) return firstQuery;
    return made(Function::Add, expr, query ? firstQuery : firstKey);
  }
  /// With `lengths` all keys are there, from 0 on.
  bool movesKeys(const Expr &expr, const KeySet &set) const {
    return isIndex(expr, Index::j) && ownKeys(set) && variant.lengths < 0;
  }

  ExprPtr made(Function function, const ExprPtr &index, const ExprPtr &first) {
    ExprPtr call = makeCall(function, index->range, {index, first}, Type::Int);
    placed.insert(call.get());
    return call;
  }

  void placeArgument(Expr &expr, size_t at, const KeySet &set) {
    ExprPtr &arg = expr.args[at];
    const std::string *dim = nullptr;
    if (expr.kind == Kind::Read && !expr.segment) dim = &variant.inputs[expr.input].dims[at];
    const bool queries = dim && *dim == "T", keys = dim && *dim == "S";
    if (!queries && !keys) {
      arg = global(arg, set);
      return;
    }
    if (isIndex(*arg, queries ? Index::i : Index::j) && (queries || ownKeys(set))) return;
    if (keys && variant.lengths >= 0) {
      arg = global(arg, set);
      return;
    }
    arg = made(Function::Sub, global(arg, set), queries ? firstQuery : firstKey);
  }
};

}  // namespace

void placeIndices(Variant &variant) {
  Placing placing(variant);
  eachStatement(variant, [&](ExprPtr &root, const KeySet &set) { placing.place(root, set); });
  if (variant.lengths >= 0) {
    for (KeySet &set : variant.sets) placing.bound(set);
    return;
  }
  countOnce(variant, [](SourceRange range) {
    return makeCall(Function::Eq, range, {makeDim(originDims[1]), makeNumber(0, range, Type::Int)}, Type::Bool);
  });
}

void countOnce(Variant &variant, const std::function<ExprPtr(SourceRange)> &holds) {
  for (size_t at = 1; at < variant.sets.size(); ++at) variant.sets[at].wheres.push_back(holds(variant.sets[at].range));
  if (!variant.sink) return;
  const SourceRange range = variant.sink->range;
  const double none = -std::numeric_limits<double>::infinity();
  variant.sink = makeCall(Function::Select, range, {holds(range), variant.sink, makeNumber(none, range, Type::Float)},
                          Type::Float);
}

int movedIndices(const Variant &variant, const Expr &read) {
  int sides = 0;
  for (size_t at = 0; variant.origin && at < read.args.size(); ++at) {
    const Expr *index = read.args[at].get();
    // Behind a condition (see guards.h).
    if (index->kind == Kind::Call && index->function == Function::Select) index = index->args[1].get();
    if (index->kind != Kind::Call || index->function != Function::Sub) continue;
    for (const int side : {0, 1})
      if (index->args[1]->kind == Kind::Dim && index->args[1]->name == originDims[side] &&
          variant.inputs[read.input].dims[at] == (side == 0 ? "T" : "S"))
        sides |= 1 << side;
  }
  return sides;
}

}  // namespace ast
}  // namespace weft
