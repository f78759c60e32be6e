#include "compiler/language/grouped.h"

#include <algorithm>
#include <vector>

#include "compiler/dims.h"
#include "compiler/grouped.h"
#include "compiler/language/nodes.h"
#include "compiler/language/origin.h"
#include "compiler/language/walk.h"

namespace weft {

bool isGrouped(const Variant &variant) { return variant.tree().grouped; }

bool canBeGrouped(const Variant &variant) { return !ast::notGrouped(variant.tree()); }

static bool has(const ast::Input &input, std::string_view dim) { return std::ranges::count(input.dims, dim) > 0; }

/// True of masks that compare positions alone, as `i >= j` does: no key is left out for being far.
static bool seesFar(const ast::KeySet &set) {
  using Kind = ast::Expr::Kind;
  using enum ast::Function;
  ast::Visited seen;
  return !set.weight && std::ranges::all_of(set.wheres, [&](const ast::ExprPtr &where) {
    return ast::argumentsFirst(*where, seen, [](const ast::Expr &expr) {
      switch (expr.kind) {
        case Kind::Index:
        case Kind::Dim:
        case Kind::Let: return true;
        case Kind::Number: return expr.value == 0 || expr.value == 1;
        case Kind::Read: return expr.name == "lengths";
        case Kind::Call: {
          constexpr ast::Function known[] = {Add, Sub, Ge, Gt, Le, Lt, And};
          return std::ranges::count(known, expr.function) > 0;
        }
        default: return false;
      }
    });
  });
}

bool canBeInPieces(const Variant &variant) {
  // Programs of pieces that are left out would cost more than sharing gains. Each piece has a row of its own of what
  // heads have; of a table with an entry a key that would be a copy.
  return variant.tree().normalizer->joining != Joining::None && seesFar(variant.tree().sets[0]) &&
         std::ranges::none_of(variant.tree().inputs, [&](const ast::Input &input) {
           return has(input, "H") &&
                  std::ranges::any_of(variant.tree().sets, [&](const ast::KeySet &set) { return has(input, set.dim); });
         });
}

std::string sourceWithGrouped(const Variant &variant, bool pieces) {
  std::string text = variant.source();
  return text.insert(static_cast<size_t>(variant.tree().parameters), pieces ? "grouped, pieces, " : "grouped, ");
}

namespace ast {
namespace {

using Kind = Expr::Kind;

/// What of a read hangs on another query, or has no place in a group.
const char *notGrouped(const Input &input, const Expr &read) {
  if (read.type == Type::Row && has(input, "H") && !has(input, "T")) return "keys or rows of each head";
  for (size_t at = 0; at < read.args.size() && at < input.dims.size(); ++at)
    if (input.dims[at] == "T" && (read.segment || !isIndex(*read.args[at], Index::i)))
      return "entries of other queries";
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

  void group(ExprPtr &root) {
    if (!root) return;
    for (Expr *expr : firstSeen(*root, grouped)) {
      if (expr->kind == Kind::Dim && expr->name == "H") beAllHeads(*expr);
      else if (expr->kind == Kind::Read) groupRead(*expr);
      else
        for (ExprPtr &arg : expr->args) arg = head(arg);
    }
    root = head(root);
  }

  /// Of each head its piece.
  void part() {
    const ExprPtr length = number(keysOfPiece), first = call(Function::Mul, piece(), length);
    KeySet &own = variant.sets[0];
    own.wheres.push_back(call(Function::Ge, index(Index::j), first, Type::Bool));
    own.wheres.push_back(call(Function::Lt, index(Index::j), call(Function::Add, first, length), Type::Bool));
    countOnce(variant, [&](SourceRange) { return call(Function::Eq, piece(), number(0), Type::Bool); });
  }

 private:
  Variant &variant;
  Visited grouped;
  std::vector<bool> isGiven;  ///< a dim T

  ExprPtr made(ExprPtr expr) {
    grouped.insert(expr.get());
    return expr;
  }
  ExprPtr dim(const char *name) { return made(makeDim(name)); }
  ExprPtr index(Index own) { return made(makeIndex(own)); }
  ExprPtr call(Function function, const ExprPtr &left, const ExprPtr &right, Type type = Type::Int) {
    return made(makeCall(function, {}, {left, right}, type));
  }
  ExprPtr number(double value) { return made(makeNumber(value, {}, Type::Int)); }
  /// Pieces of a group's keys.
  ExprPtr pieces() { return call(Function::FloorDiv, dim("H"), dim("G")); }
  ExprPtr piece() { return call(Function::Mod, index(Index::h), pieces()); }

  /// H T, or G T of pieces
  void beAllHeads(Expr &expr) {
    expr.kind = Kind::Call;
    expr.function = Function::Mul;
    expr.args = {dim(variant.pieces ? "G" : "H"), dim("T")};
  }
  /// h T + i, where the expression is h.
  ExprPtr head(const ExprPtr &expr) {
    if (!expr || !isIndex(*expr, Index::h)) return expr;
    const ExprPtr group = variant.pieces ? call(Function::FloorDiv, index(Index::h), pieces()) : index(Index::h);
    return call(Function::Add, call(Function::Mul, group, dim("T")), index(Index::i));
  }
  void groupRead(Expr &read) {
    const std::vector<std::string> &dims = variant.inputs[static_cast<size_t>(read.input)].dims;
    const size_t heads = static_cast<size_t>(std::ranges::find(dims, "H") - dims.begin());
    if (isGiven[static_cast<size_t>(read.input)])
      read.args.insert(read.args.begin() + static_cast<std::ptrdiff_t>(heads) + 1, index(Index::i));
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
  eachStatement(variant, [&](const ExprPtr &root, const KeySet &) {
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
  eachStatement(variant, [&](ExprPtr &root, const KeySet &) { grouping.group(root); });
  if (variant.pieces) grouping.part();
}

}  // namespace ast
}  // namespace weft
