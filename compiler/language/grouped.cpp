#include "compiler/language/grouped.h"

#include <algorithm>
#include <vector>

#include "compiler/dims.h"
#include "compiler/grouped.h"
#include "compiler/language/nodes.h"
#include "compiler/language/walk.h"

namespace weft {

bool isGrouped(const Variant &variant) { return variant.tree().grouped; }

bool canBeGrouped(const Variant &variant) { return !ast::notGrouped(variant.tree()); }

std::string sourceWithGrouped(const Variant &variant, std::string text) {
  return text.insert(static_cast<size_t>(variant.tree().parameters), "grouped, ");
}

namespace ast {
namespace {

using Kind = Expr::Kind;

bool has(const Input &input, std::string_view dim) { return std::ranges::count(input.dims, dim) > 0; }
bool is(const Expr &expr, Index index) { return expr.kind == Kind::Index && expr.index == index; }

/// visit(root) for the expression of each statement about pairs.
template <class Tree, class Visit>
void eachRoot(Tree &variant, Visit visit) {
  for (auto &set : variant.sets) {
    for (auto &let : set.lets) visit(let.value);
    for (auto &where : set.wheres) visit(where);
    for (auto *expr : {&set.score, &set.weight, &set.gate}) visit(*expr);
  }
  visit(variant.sink);
}

/// What of a read hangs on another query, or has no place in a group.
const char *notGrouped(const Input &input, const Expr &read) {
  if (read.type == Type::Row && has(input, "H") && !has(input, "T")) return "keys or rows of each head";
  for (size_t at = 0; at < read.args.size() && at < input.dims.size(); ++at)
    if (input.dims[at] == "T" && (read.segment || !is(*read.args[at], Index::i))) return "entries of other queries";
  return nullptr;
}

class Grouping {
 public:
  explicit Grouping(Variant &variant) : variant(variant), isGiven(variant.inputs.size()) {
    for (size_t at = 0; at < variant.inputs.size(); ++at) {
      Input &input = variant.inputs[at];
      isGiven[at] = has(input, "H") && !has(input, "T");
      if (isGiven[at]) input.dims.insert(std::ranges::find(input.dims, "H") + 1, "T");
    }
  }

  /// Expressions may be shared by several: each changes once.
  void group(ExprPtr &root) {
    if (!root) return;
    std::vector<Expr *> found;
    argumentsFirst(*root, grouped, [&](const Expr &expr) {
      // The variant is ours to complete.
      found.push_back(const_cast<Expr *>(&expr));
      return true;
    });
    for (Expr *expr : found) {
      if (expr->kind == Kind::Dim && expr->name == "H") beAllHeads(*expr);
      else if (expr->kind == Kind::Read) groupRead(*expr);
      else
        for (ExprPtr &arg : expr->args) arg = head(arg);
    }
    root = head(root);
  }

 private:
  Variant &variant;
  Visited grouped;
  std::vector<bool> isGiven;  ///< a dim T

  ExprPtr made(ExprPtr expr) {
    grouped.insert(expr.get());
    return expr;
  }
  ExprPtr dim(const char *name) {
    ExprPtr node = made(makeNode(Kind::Dim, {}, Type::Int));
    node->name = name;
    return node;
  }
  ExprPtr row() {
    ExprPtr node = made(makeNode(Kind::Index, {}, Type::Int));
    node->index = Index::i;
    return node;
  }

  /// H T
  void beAllHeads(Expr &expr) {
    expr.kind = Kind::Call;
    expr.function = Function::Mul;
    expr.args = {dim("H"), dim("T")};
  }
  /// h T + i, where the expression is h.
  ExprPtr head(const ExprPtr &expr) {
    if (!expr || !is(*expr, Index::h)) return expr;
    const ExprPtr first = made(makeCall(Function::Mul, expr->range, {expr, dim("T")}, Type::Int));
    return made(makeCall(Function::Add, expr->range, {first, row()}, Type::Int));
  }
  void groupRead(Expr &read) {
    const std::vector<std::string> &dims = variant.inputs[static_cast<size_t>(read.input)].dims;
    const size_t heads = static_cast<size_t>(std::ranges::find(dims, "H") - dims.begin());
    if (isGiven[static_cast<size_t>(read.input)])
      read.args.insert(read.args.begin() + static_cast<std::ptrdiff_t>(heads) + 1, row());
    for (size_t at = 0; at < read.args.size(); ++at)
      if (at >= dims.size() || !isHeadDim(dims[at])) read.args[at] = head(read.args[at]);
  }
};

}  // namespace

const char *notGrouped(const Variant &variant) {
  if (!variant.selects.empty()) return "a 'select'";
  if (variant.keys) return "lists of keys";
  if (variant.dropout) return "'dropout', which knows heads by their numbers";
  bool groups = false;
  for (const Input &input : variant.inputs)
    for (const std::string &dim : input.dims) {
      groups |= dim == "G";
      if (isGroupDim(dim) && dim != "G") return "groups of several sizes";
    }
  if (!groups) return "no input of groups of heads, as in: k: [B, G, S, D]";
  const char *why = nullptr;
  Visited seen;
  eachRoot(variant, [&](const ExprPtr &root) {
    if (!root) return;
    argumentsFirst(*root, seen, [&](const Expr &expr) {
      if (expr.kind == Kind::Read && !why) why = notGrouped(variant.inputs[static_cast<size_t>(expr.input)], expr);
      return !why;
    });
  });
  return why;
}

void groupHeads(Variant &variant) {
  Grouping grouping(variant);
  eachRoot(variant, [&](ExprPtr &root) { grouping.group(root); });
}

}  // namespace ast
}  // namespace weft
