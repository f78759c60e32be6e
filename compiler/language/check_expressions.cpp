#include "compiler/language/check_expressions.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "compiler/dims.h"
#include "compiler/language/causal.h"
#include "compiler/language/nodes.h"

namespace weft {

using namespace ast;
using Kind = Expr::Kind;

namespace {

enum class Typing { Same, Float, ToInt, Whole, Compare, Logic, Select, Convert };

Typing typingOf(Function function) {
  switch (function) {
#define WEFT_FUNCTION(id, spell, count, typing) \
  case Function::id: return Typing::typing;
#include "compiler/language/functions.def"
#undef WEFT_FUNCTION
  }
  return Typing::Same;
}

/// Makes an operation on two conditions one of `and`, `or` and `not`; false where it is none on conditions.
bool joinConditions(Expr &expr) {
  auto join = [&](Function function, std::vector<ExprPtr> args) {
    return makeCall(function, expr.range, std::move(args), Type::Bool);
  };
  const ExprPtr a = expr.args[0], b = expr.args[1];
  switch (expr.function) {
    case Function::BitAnd:
    case Function::BitOr: expr.function = expr.function == Function::BitAnd ? Function::And : Function::Or; break;
    case Function::Eq:
      expr.function = Function::Or;
      expr.args = {join(Function::And, {a, b}), join(Function::Not, {join(Function::Or, {a, b})})};
      break;
    case Function::Ne:
    case Function::BitXor:
      expr.function = Function::And;
      expr.args = {join(Function::Or, {a, b}), join(Function::Not, {join(Function::And, {a, b})})};
      break;
    default: return false;
  }
  expr.type = Type::Bool;
  return true;
}

/// The operation that gave a float and may have rounded it; null where it is as it was read or written.
const Expr *roundingOf(const Expr &value) {
  const Expr *expr = &value;
  while (expr->kind == Kind::Let ||
         (expr->kind == Kind::Call && (expr->function == Function::Neg || expr->function == Function::Abs)))
    expr = expr->args[0].get();
  const bool computed = expr->kind == Kind::Dot || (expr->kind == Kind::Call && expr->function != Function::ToFloat);
  return computed ? expr : nullptr;
}

/// True for `a / b` of two ints.
bool dividesInts(const Expr &expr) {
  auto isInt = [](const ExprPtr &arg) {
    return arg->kind == Kind::Number ? arg->value == std::floor(arg->value)
                                     : arg->kind == Kind::Call && arg->function == Function::ToFloat;
  };
  return expr.kind == Kind::Call && expr.function == Function::Div && std::ranges::all_of(expr.args, isInt);
}

/// Rows that a dot may take.
bool allowedRow(const Input &input) {
  return input.dims.size() == 4 && input.element == ElementClass::Float && input.dims[0] == "B" &&
         (input.dims[1] == "H" || (isGroupDim(input.dims[1]) && input.dims[2] != "T"));
}

}  // namespace

ExprPtr ExpressionChecker::toNumber(const ExprPtr &expr) {
  if (expr->type != Type::Bool) return expr;
  auto integer = [&](double value) { return makeNumber(value, expr->range, Type::Int); };
  return makeCall(Function::Select, expr->range, {expr, integer(1), integer(0)}, Type::Int);
}

ExprPtr ExpressionChecker::toFloat(const ExprPtr &expr) {
  if (expr->type == Type::Float) return expr;
  if (expr->kind == Kind::Number) return makeNumber(expr->value, expr->range, Type::Float);
  return makeCall(Function::ToFloat, expr->range, {expr}, Type::Float);
}

void ExpressionChecker::check(ExprPtr &expr) {
  if (expr->type != Type::Unknown) return;
  switch (expr->kind) {
    case Kind::Number: return;
    case Kind::True:
    case Kind::False: expr->type = Type::Bool; return;
    case Kind::Index:
    case Kind::Dim: expr->type = Type::Int; return;
    case Kind::Let: return;
    case Kind::Name: return checkName(expr);
    case Kind::Read: return checkRead(*expr);
    case Kind::Dot: return checkDot(*expr);
    case Kind::Call: break;
    case Kind::Pooled: return checkPooled(*expr);
  }
  // a + b + c + ... is as deep as it is long, on its first side: that one in a loop.
  std::vector<Expr *> spine{expr.get()};
  while (spine.back()->args[0]->kind == Kind::Call && spine.back()->args[0]->type == Type::Unknown)
    spine.push_back(spine.back()->args[0].get());
  for (; !spine.empty(); spine.pop_back()) {
    checkCall(*spine.back());
    if (spine.back()->type == Type::Unknown) return;
  }
}

void ExpressionChecker::checkPooled(Expr &expr) {
  expr.input = variant.inputNamed(expr.name);
  if (expr.input < 0) {
    report(expr.range, "unknown input '" + expr.name + "'", "declare it between ( and )");
    return;
  }
  const Input &input = variant.inputs[expr.input];
  if (!allowedRow(input) || (input.dims[2] != "T" && input.dims[2] != "S")) {
    report(expr.range, "expected rows of queries [B, H, T, D] or of keys [B, G, S, D] in '" +
                           std::string(spelling(expr.pool)) + "', got input '" + expr.name + "'");
    return;
  }
  if (expr.pool == Pool::MeanBefore && input.dims[2] != "T") {
    report(expr.range, "expected rows of queries in 'mean_before', got keys",
           "a key tile is summed up by mean(" + expr.name + ")");
    return;
  }
  if (causal() && expr.pool != Pool::MeanBefore && input.dims[2] == "T") {
    report(expr.range,
           "expected a summary of queries before the tile in a causal variant, got '" +
               std::string(spelling(expr.pool)) + "'",
           "its own rows hold tokens after its first one; use mean_before(" + expr.name + ")");
    return;
  }
  expr.type = Type::Row;
}

bool ExpressionChecker::causal() {
  if (!knownCausal) knownCausal = saysCausal(variant);
  return *knownCausal;
}

void ExpressionChecker::checkName(ExprPtr &expr) {
  const std::string name = expr->name;
  if (auto let = scope.lets.find(name); let != scope.lets.end()) {
    expr->kind = Kind::Let;
    expr->args = {let->second};
    expr->type = let->second->type;
    return;
  }
  for (const Constant &constant : variant.constants)
    if (constant.name == name) {
      expr->kind = Kind::Number;
      expr->value = constant.value;
      expr->type = constant.whole ? Type::Int : Type::Float;
      return;
    }
  if (scope.dims.count(name)) {
    expr->kind = Kind::Dim;
    expr->type = Type::Int;
    return;
  }
  if (variant.inputNamed(name) >= 0) {
    expr->kind = Kind::Read;
    return checkRead(*expr);
  }
  for (const Let &let : scope.set->lets)
    if (let.name == name) {
      report(expr->range, "expected a name declared above, got '" + name + "', whose let stands below or is this one",
             "a let may use only what stands before it");
      return;
    }
  for (const Let &let : variant.sets[0].lets)
    if (let.name == name) {
      report(expr->range, "expected a name of this block, got '" + name + "', which hangs on the keys of v",
             "name it again here: j counts other keys");
      return;
    }
  if (name == "inf") {
    expr->kind = Kind::Number;
    expr->value = std::numeric_limits<double>::infinity();
    expr->type = Type::Float;
    return;
  }
  report(expr->range, "unknown name '" + name + "'", "names are inputs, constants, lets, dims and the indices b h i j");
}

/// Completes a read: leading B, H and G dims are filled in when they were left out.
void ExpressionChecker::checkRead(Expr &expr) {
  expr.input = variant.inputNamed(expr.name);
  if (expr.input < 0) {
    report(expr.range, "unknown input '" + expr.name + "'", "declare it between ( and )");
    return;
  }
  const Input &input = variant.inputs[expr.input];
  for (ExprPtr &arg : expr.args) {
    check(arg);
    if (arg->type == Type::Unknown) return;
    arg = toNumber(arg);
    if (arg->type != Type::Int) {
      report(arg->range, std::string("expected an int as an index, got ") + typeName(arg->type),
             "use floor, ceil or round to make an int");
      return;
    }
  }
  auto implicitIndex = [&](const std::string &dim) -> ExprPtr {
    if (!isLeadingDim(dim)) return nullptr;
    ExprPtr index = makeNode(Kind::Index, expr.range, Type::Int);
    index->index = dim == "B" ? Index::b : Index::h;
    return index;
  };
  const size_t rank = input.dims.size();
  size_t leading = 0;
  while (leading < rank && implicitIndex(input.dims[leading])) ++leading;
  const size_t given = expr.args.size();
  // Not one that a call cuts or packs: of other tokens' offsets.
  auto isOfTokens = [&](const std::string &dim) {
    return dim == "T" || std::ranges::any_of(variant.sets, [&](const KeySet &set) { return dim == set.dim; });
  };
  if (expr.segment && (input.element != ElementClass::Int || leading + 1 != rank || isOfTokens(input.dims.back())))
    return report(expr.range, "expected offsets int [B, N] in 'segment', got '" + input.name + "'",
                  "ints that rise along one dim of their own; B and H may be missing");
  // Written out: every dim, or every dim but the last (a row). Left out: b and h in front.
  std::vector<ExprPtr> full;
  bool row = false;
  const size_t own = rank - leading;
  auto fill = [&](size_t skip) {
    for (size_t at = 0; at < skip; ++at) full.push_back(implicitIndex(input.dims[at]));
    full.insert(full.end(), expr.args.begin(), expr.args.end());
  };
  bool fits = false;
  const bool canBeRow = allowedRow(input) && own == 2;
  for (size_t skip = 0; skip <= leading && !fits; ++skip) {
    const size_t missing = rank - skip;
    if (given == missing || (canBeRow && given + 1 == missing)) {
      // The fewest filled dims that fit, except that q[i] is a row, never b.
      if (given < own && !(canBeRow && given + 1 == own)) continue;
      if (given == missing && given < own) continue;
      bool plausible = true;
      for (size_t at = skip; at < leading; ++at) {
        const ExprPtr &arg = expr.args[at - skip];
        const Index want = input.dims[at] == "B" ? Index::b : Index::h;
        plausible &= arg->kind == Kind::Index && arg->index == want;
      }
      if (!plausible) continue;
      fill(skip);
      row = given + 1 == missing;
      fits = true;
    }
  }
  if (!fits) {
    std::string shape;
    for (const std::string &dim : input.dims) shape += (shape.empty() ? "" : ", ") + dim;
    report(expr.range,
           "expected " + std::to_string(own) + " index(es) of '" + input.name + "' [" + shape +
               "] after b and h, got " + std::to_string(given),
           "b and h may be left out or written as themselves; one trailing dim may be left "
           "unindexed for dot");
    return;
  }
  expr.args = std::move(full);
  if (row) expr.type = Type::Row;
  else
    expr.type = input.element == ElementClass::Float ? Type::Float
                : input.element == ElementClass::Int ? Type::Int
                                                     : Type::Bool;
}

/// 0: a row of queries (dims T), 1: a row of the set's keys (dims S), -1: neither.
int ExpressionChecker::rowSide(const Expr &expr) {
  const Input &input = variant.inputs[expr.input];
  if (expr.kind == Kind::Pooled) return input.dims[2] == "T" ? 0 : 1;
  const Expr &index = *expr.args.back();
  if (index.kind == Kind::Index && index.index == Index::i && input.dims[2] == "T") return 0;
  if (index.kind == Kind::Index && index.index == Index::j && input.dims[2] == scope.set->dim) return 1;
  return -1;
}

void ExpressionChecker::checkDot(Expr &expr) {
  bool pooled = false, plain = false;
  for (ExprPtr &arg : expr.args) {
    // A tile of one key is summed up by the key itself.
    if (scope.keysAlone && arg->kind == Kind::Name)
      if (const int input = variant.inputNamed(arg->name);
          input >= 0 && variant.inputs[input].dims.size() == 4 && variant.inputs[input].dims[2] == "S") {
        arg->kind = Kind::Pooled;
        arg->pool = Pool::First;
      }
    if (scope.selecting && arg->kind == Kind::Name && !scope.lets.count(arg->name) &&
        variant.inputNamed(arg->name) >= 0)
      return report(arg->range, "expected pooled rows in the 'dot' of a select, got '" + arg->name + "'",
                    "as in: mean_before(q), mean(k)");
    check(arg);
    if (arg->type == Type::Unknown) return;
    if (arg->type != Type::Row) {
      report(arg->range, std::string("expected a row in 'dot', got ") + typeName(arg->type),
             "a row leaves one trailing dim unindexed, as in q[i] of q: [B, H, T, D]");
      return;
    }
    (arg->kind == Kind::Pooled ? pooled : plain) = true;
    if (const std::string &heads = variant.inputs[arg->input].dims[1]; arg->kind == Kind::Pooled && heads != "G")
      if (isGroupDim(heads)) {
        report(arg->range, "expected pooled rows of heads H or of groups G, got " + heads + " of '" + arg->name + "'");
        return;
      }
    if (rowSide(*arg) < 0) {
      report(arg->range,
             "expected a row of queries x[i] with dims [B, H, T, D] or a row of keys "
             "y[j] with dims [B, G, " +
                 scope.set->dim + ", D] in 'dot'");
      return;
    }
  }
  if (plain && (pooled || scope.selecting)) {
    report(expr.range, "expected pooled rows in the 'dot' of a select", "as in: dot(mean_before(q), mean(k))");
    return;
  }
  if (rowSide(*expr.args[0]) == 1) std::swap(expr.args[0], expr.args[1]);
  if (rowSide(*expr.args[0]) != 0 || rowSide(*expr.args[1]) != 1) {
    report(expr.range, "expected one row of queries and one row of keys in 'dot'", "as in: dot(q[i], k[j])");
    return;
  }
  const std::string &left = variant.inputs[expr.args[0]->input].dims[3];
  const std::string &right = variant.inputs[expr.args[1]->input].dims[3];
  if (left != right) {
    report(expr.range, "expected rows of one length in 'dot', got " + left + " and " + right);
    return;
  }
  expr.type = Type::Float;
}

/// Reports `==` and `!=` of floats that need not be what they are on paper.
bool ExpressionChecker::comparesExactly(const Expr &expr) {
  if (expr.function != Function::Eq && expr.function != Function::Ne) return true;
  for (const ExprPtr &arg : expr.args)
    if (const Expr *rounding = roundingOf(*arg)) {
      const std::string sign = spelling(expr.function);
      report(arg->range,
             "expected ints, or floats that no arithmetic has rounded, in '" + sign + "', got a computed float",
             dividesInts(*rounding) ? "'/' makes a float of two ints; a div b is the int floor(a / b)"
             : expr.function == Function::Eq
                 ? "write abs(a - b) < eps, or a <= b and a >= b where only the same float counts"
                 : "write abs(a - b) >= eps, or a < b or a > b where any other float counts");
      return false;
    }
  return true;
}

void ExpressionChecker::checkCall(Expr &expr) {
  for (ExprPtr &arg : expr.args) {
    check(arg);
    if (arg->type == Type::Unknown) return;
  }
  auto demand = [&](size_t at, bool ok, const char *what) {
    if (ok) return true;
    report(expr.args[at]->range, std::string("expected ") + what + " in '" + spelling(expr.function) + "', got " +
                                     typeName(expr.args[at]->type));
    return false;
  };
  auto number = [&](size_t at) {
    if (!demand(at, expr.args[at]->type != Type::Row, "a number")) return false;
    expr.args[at] = toNumber(expr.args[at]);
    return true;
  };
  auto boolean = [&](size_t at) { return demand(at, expr.args[at]->type == Type::Bool, "a condition"); };
  auto promote = [&](size_t from) {
    bool anyFloat = false;
    for (size_t at = from; at < expr.args.size(); ++at) anyFloat |= expr.args[at]->type == Type::Float;
    if (anyFloat)
      for (size_t at = from; at < expr.args.size(); ++at) expr.args[at] = toFloat(expr.args[at]);
    return anyFloat ? Type::Float : Type::Int;
  };
  const Typing typing = typingOf(expr.function);
  const bool conditions = std::ranges::all_of(expr.args, [](const ExprPtr &arg) { return arg->type == Type::Bool; });
  if (conditions && expr.args.size() == 2 && joinConditions(expr)) return;
  switch (typing) {
    case Typing::Same:
    case Typing::Compare:
      for (size_t at = 0; at < expr.args.size(); ++at)
        if (!number(at)) return;
      expr.type = promote(0);
      if (typing == Typing::Same) return;
      if (expr.type == Type::Float && !comparesExactly(expr)) return void(expr.type = Type::Unknown);
      expr.type = Type::Bool;
      return;
    case Typing::Float:
    case Typing::ToInt:
      for (size_t at = 0; at < expr.args.size(); ++at) {
        if (!number(at)) return;
        expr.args[at] = toFloat(expr.args[at]);
      }
      expr.type = typing == Typing::Float ? Type::Float : Type::Int;
      return;
    case Typing::Whole:
      for (size_t at = 0; at < expr.args.size(); ++at) {
        if (!number(at)) return;
        if (expr.args[at]->type == Type::Int) continue;
        return report(expr.args[at]->range,
                      std::string("expected an int in '") + spelling(expr.function) + "', got float",
                      expr.function == Function::FloorDiv ? "floats are divided by floor(a / b)"
                                                          : "use floor, ceil or round to make an int");
      }
      expr.type = Type::Int;
      return;
    case Typing::Logic:
      for (size_t at = 0; at < expr.args.size(); ++at)
        if (!boolean(at)) return;
      expr.type = Type::Bool;
      return;
    case Typing::Select: {
      if (!boolean(0)) return;
      if (expr.args[1]->type == Type::Bool && expr.args[2]->type == Type::Bool) {
        // if c then a else b on conditions: (c and a) or (not c and b)
        auto call = [&](Function function, std::vector<ExprPtr> args) {
          return makeCall(function, expr.range, std::move(args), Type::Bool);
        };
        ExprPtr yes = call(Function::And, {expr.args[0], expr.args[1]});
        ExprPtr no = call(Function::And, {call(Function::Not, {expr.args[0]}), expr.args[2]});
        expr.function = Function::Or;
        expr.args = {yes, no};
        expr.type = Type::Bool;
        return;
      }
      if (!number(1) || !number(2)) return;
      expr.type = promote(1);
      return;
    }
    case Typing::Convert: expr.type = Type::Float; return;
  }
}

}  // namespace weft
