#include "compiler/language/checker.h"

#include <algorithm>
#include <map>
#include <set>

#include "compiler/kernel_image.h"
#include "compiler/language/causal.h"
#include "compiler/language/cost.h"
#include "compiler/language/selection.h"
#include "compiler/language/walk.h"

namespace weft {
namespace {

using namespace ast;
using Kind = Expr::Kind;

enum class Typing { Same, Float, ToInt, Compare, Logic, Select, Convert };

Typing typingOf(Function function) {
  switch (function) {
#define WEFT_FUNCTION(id, spell, count, typing) \
  case Function::id:                            \
    return Typing::typing;
#include "compiler/language/functions.def"
#undef WEFT_FUNCTION
  }
  return Typing::Same;
}

class Checker {
 public:
  Checker(Variant &variant, Diagnostics &diagnostics) : variant(variant), diagnostics(diagnostics) {}

  void run() {
    const size_t before = diagnostics.size();
    checkInputs();
    set = &variant.sets[0];
    set->range = variant.range;
    for (Let &let : set->lets) {
      declare(let.name, let.range);
      checkLet(let);
    }
    checkPair();
    demandFloat(variant.sink, "sink");
    if (variant.sink && dependsOnPair(*variant.sink))
      report(variant.sink->range, "expected a sink of b and h only, got one of i or j",
             "as in: sink c[h]");
    checkSelects();
    if (variant.keys) checkKeys(*variant.keys);
    for (size_t at = 1; at < variant.sets.size(); ++at) checkAlso(variant.sets[at]);
    if (variant.sink && variant.normalize != Normalize::Softmax)
      report(variant.sink->range, "expected 'normalize softmax' with a sink");
    if (diagnostics.size() == before && compileSteps(variant) > mostSteps)
      report(variant.range, "expected a variant of at most " + std::to_string(mostSteps) + " steps for each pair, got more: its kernels would take long to compile",
             "an operation is 1 step, exp 10, sin 25, an int mod or pow 40, a gathered float 60, a product of rows 100; compute "
             "what does not hang on the pair beforehand and give it as an input");
  }

 private:
  Variant &variant;
  Diagnostics &diagnostics;
  std::set<std::string> declared;
  std::set<std::string> dims;
  std::map<std::string, ExprPtr> lets;
  bool selecting = false;
  bool keysAlone = false;  ///< of a select: a tile holds one key
  KeySet *set = nullptr;  ///< whose keys j counts

  void report(SourceRange range, std::string message, std::string hint = {}) {
    diagnostics.report(range, std::move(message), std::move(hint));
  }

  void declare(const std::string &name, SourceRange range) {
    if (!declared.insert(name).second)
      report(range, "expected a new name, got '" + name + "', which is already declared");
    else if (dims.count(name))
      report(range, "expected a new name, got '" + name + "', which is a dim");
  }

  bool allowedRow(const Input &input) const {
    return input.dims.size() == 4 && input.element == ElementClass::Float && input.dims[0] == "B" &&
           (input.dims[1] == "H" || (input.dims[1] == "G" && input.dims[2] != "T"));
  }

  void checkInputs() {
    for (const Input &input : variant.inputs)
      for (const std::string &dim : input.dims) dims.insert(dim);
    for (const Input &input : variant.inputs) {
      declare(input.name, input.range);
      for (size_t at = 0; at < input.dims.size(); ++at) {
        const std::string &dim = input.dims[at];
        if (dim == "page" || dim == "pages") report(input.range, "expected another dim than '" + dim + "', which is one of the kernels");
        if (dim == "B" && at != 0)
          report(input.range, "expected B to be the first dim of '" + input.name + "'");
        const bool afterBatch = at == 0 || (at == 1 && input.dims[0] == "B");
        if ((dim == "H" || dim == "G") && !afterBatch)
          report(input.range, "expected " + dim + " to stand first or after B in '" + input.name + "'");
      }
    }
    for (const Input &input : variant.inputs) {
      auto among = [&](const auto &names) { return std::ranges::count(names, input.name) > 0; };
      bool reserved = among(ownTensors) || among(keptRows) || among(ownTensorsOfKeys);
      for (const Input &other : variant.inputs) reserved |= input.name == "d" + other.name;
      if (reserved)
        report(input.range, "expected another name than '" + input.name +
                                "', which is a tensor of the kernels");
    }
    for (const Constant &constant : variant.constants) declare(constant.name, constant.range);
    const int v = variant.sets[0].values = variant.inputNamed("v");
    if (v < 0) {
      report(variant.range, "expected an input named 'v', got none",
             "the output is the sum of p_ij v_j; declare v: [B, H, S, E] or v: [B, G, S, E]");
      return;
    }
    const Input &value = variant.inputs[v];
    if (value.element != ElementClass::Float || value.dims.size() != 4 || value.dims[0] != "B" ||
        (value.dims[1] != "H" && value.dims[1] != "G") || value.dims[2] != "S")
      report(value.range, "expected v: [B, H, S, E] or v: [B, G, S, E], got another shape");
    if (!dims.count("T") || !dims.count("H"))
      report(variant.range, "expected inputs that name the dims T and H, got none",
             "as in: q: [B, H, T, D]");
  }

  /// True where a checked `expr` holds i, j or a dot.
  bool dependsOnPair(const Expr &expr) { return depends(expr, onPair, [](Index index) { return index == Index::i || index == Index::j; }); }
  /// True where it holds j or a dot.
  bool dependsOnKey(const Expr &expr) { return depends(expr, onKey, [](Index index) { return index == Index::j; }); }

  /// What was found of each checked expression, for those that share it.
  struct Dependences {
    Visited known, dependent;
  };
  Dependences onPair, onKey;
  template <class IsOne>
  static bool depends(const Expr &expr, Dependences &found, IsOne isOne) {
    argumentsFirst(expr, found.known, [&](const Expr &part) {
      bool own = part.kind == Kind::Dot || (part.kind == Kind::Index && isOne(part.index));
      for (const ExprPtr &arg : part.args) own |= found.dependent.count(arg.get()) > 0;
      if (own) found.dependent.insert(&part);
      return true;
    });
    return found.dependent.count(&expr) > 0;
  }

  void checkLet(Let &let) {
    check(let.value);
    if (let.value->type == Type::Row)
      report(let.range, "expected a scalar in a let, got a row", "name the dot instead");
    lets[let.name] = let.value;
  }
  /// A let of a block, which may have the name of one outside it.
  void checkInnerLet(Let &let, std::set<std::string> &own) {
    if (variant.inputNamed(let.name) >= 0 || dims.count(let.name) || !own.insert(let.name).second)
      report(let.range, "expected a new name, got '" + let.name + "', which is already declared");
    lets.erase(let.name);
    checkLet(let);
  }

  /// The statements of a set of keys, besides its lets.
  void checkPair() {
    if (!set->score)
      report(set->range, "expected a 'score', got none", "as in: score dot(q[i], k[j]) / sqrt(D)");
    for (ExprPtr &where : set->wheres) demandBool(where);
    demandFloat(set->score, "score");
    demandFloat(set->weight, "weight");
    demandFloat(set->gate, "gate");
  }

  void checkAlso(KeySet &also) {
    if (also.values < 0 || variant.sets[0].values < 0) return;
    const Input &own = variant.inputs[also.values], &main = variant.inputs[variant.sets[0].values];
    const char *hint = "as in: also sv { ... }   with sk: [B, H, N, D], sv: [B, H, N, E]";
    if (own.element != ElementClass::Float || own.dims.size() != 4 || own.dims[0] != "B" || (own.dims[1] != "H" && own.dims[1] != "G") ||
        own.dims[3] != main.dims.back())
      return report(also.range, "expected values [B, H, N, " + main.dims.back() + "] or [B, G, N, " + main.dims.back() + "] like 'v', got '" + own.name + "'", hint);
    also.dim = own.dims[2];
    bool taken = also.dim == "T" || (variant.keys && variant.keys->input >= 0 && variant.inputs[variant.keys->input].dims.back() == also.dim);
    for (const KeySet &other : variant.sets) taken |= &other != &also && other.dim == also.dim;
    if (taken) return report(also.range, "expected a dim of its own for the number of its keys, got " + also.dim, hint);
    if (variant.normalize == Normalize::StickBreaking)
      report(also.range, "expected another normaliser than stick_breaking with 'also': its keys do not follow those of v");
    const std::map<std::string, ExprPtr> outer = lets;
    std::erase_if(lets, [&](const auto &let) { return dependsOnKey(*let.second); });
    set = &also;
    std::set<std::string> names;
    for (Let &let : also.lets) checkInnerLet(let, names);
    checkPair();
    set = &variant.sets[0];
    lets = outer;
  }

  void demandBool(ExprPtr &expr) {
    check(expr);
    if (expr->type != Type::Bool && expr->type != Type::Unknown)
      report(expr->range, std::string("expected a condition after 'where', got ") +
                              typeName(expr->type), "as in: where i >= j");
  }

  void demandFloat(ExprPtr &expr, const char *statement) {
    if (!expr) return;
    check(expr);
    if (expr->type == Type::Int) expr = toFloat(expr);
    if (expr->type != Type::Float && expr->type != Type::Unknown)
      report(expr->range, std::string("expected a number after '") + statement + "', got " +
                              typeName(expr->type));
  }

  ExprPtr toFloat(const ExprPtr &expr) {
    if (expr->type == Type::Float) return expr;
    auto result = std::make_shared<Expr>();
    result->range = expr->range;
    result->type = Type::Float;
    if (expr->kind == Kind::Number) {
      result->kind = Kind::Number;
      result->value = expr->value;
      return result;
    }
    result->kind = Kind::Call;
    result->function = Function::ToFloat;
    result->args = {expr};
    return result;
  }

  /// Gives `expr` a type; Unknown where an error was reported below it.
  void check(ExprPtr &expr) {
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
    while (spine.back()->args[0]->kind == Kind::Call && spine.back()->args[0]->type == Type::Unknown) spine.push_back(spine.back()->args[0].get());
    for (; !spine.empty(); spine.pop_back()) {
      checkCall(*spine.back());
      if (spine.back()->type == Type::Unknown) return;
    }
  }

  // ---- selection -----------------------------------------------------------------------------

  void checkPooled(Expr &expr) {
    expr.input = variant.inputNamed(expr.name);
    if (expr.input < 0) {
      report(expr.range, "unknown input '" + expr.name + "'", "declare it between ( and )");
      return;
    }
    const Input &input = variant.inputs[expr.input];
    if (!allowedRow(input) || (input.dims[2] != "T" && input.dims[2] != "S")) {
      report(expr.range, "expected rows of queries [B, H, T, D] or of keys [B, G, S, D] in '" + std::string(spelling(expr.pool)) +
                             "', got input '" + expr.name + "'");
      return;
    }
    if (expr.pool == Pool::MeanBefore && input.dims[2] != "T") {
      report(expr.range, "expected rows of queries in 'mean_before', got keys", "a key tile is summed up by mean(" + expr.name + ")");
      return;
    }
    if (causal() && expr.pool != Pool::MeanBefore && input.dims[2] == "T") {
      report(expr.range, "expected a summary of queries before the tile in a causal variant, got '" + std::string(spelling(expr.pool)) + "'",
             "its own rows hold tokens after its first one; use mean_before(" + expr.name + ")");
      return;
    }
    expr.type = Type::Row;
  }

  bool causal() {
    if (!knownCausal) knownCausal = saysCausal(variant);
    return *knownCausal;
  }
  std::optional<bool> knownCausal;   ///< once the wheres are checked

  void checkKeys(KeyList &keys) {
    const Expr &expr = *keys.expr;
    const char *hint = "as in: keys = list[h]   with list: int [H, N]   or   keys = list[floor(i / 64)]   with list: int [B, H, M, N]";
    auto wrong = [&](const std::string &message) { report(expr.range, message, hint); };
    keys.input = expr.kind == Kind::Name || expr.kind == Kind::Read ? variant.inputNamed(expr.name) : -1;
    if (keys.input < 0) return wrong("expected an input after 'keys =', got '" + print(expr) + "'");
    const Input &input = variant.inputs[keys.input];
    size_t leading = 0;
    while (leading < input.dims.size() && (input.dims[leading] == "B" || input.dims[leading] == "H")) ++leading;
    const size_t own = input.dims.size() - leading;
    if (input.element != ElementClass::Int || own < 1 || own > 2) return wrong("expected lists of keys int [B, H, N] or int [B, H, M, N], got '" + input.name + "'");
    if (input.dims.back() == "T" || input.dims.back() == "S") return wrong("expected a dim of its own for the length of the lists, got " + input.dims.back());
    std::vector<ExprPtr> args = expr.args;
    while (!args.empty() && args[0]->kind == Kind::Index && (args[0]->index == Index::b || args[0]->index == Index::h)) args.erase(args.begin());
    if (args.size() + 1 != own) return wrong("expected " + std::to_string(own - 1) + " index(es) of '" + input.name + "' besides b and h, got " + std::to_string(args.size()));
    if (own == 2) {
      // floor(i / c)
      const Expr &index = *args[0];
      const bool floored = index.kind == Kind::Call && index.function == Function::Floor && index.args[0]->kind == Kind::Call && index.args[0]->function == Function::Div;
      const Expr *from = floored ? index.args[0]->args[0].get() : nullptr, *by = floored ? index.args[0]->args[1].get() : nullptr;
      if (!floored || from->kind != Kind::Index || from->index != Index::i || by->kind != Kind::Number) return wrong("expected a list for each tile of queries: floor(i / 64)");
      keys.tile = static_cast<int>(std::min(by->value, 1e6));
      if (keys.tile != by->value || keys.tile % 16 || keys.tile < 16 || keys.tile > 8192)
        return wrong("expected lists for a multiple of 16 queries from 16 to 8192, got " + print(*by));
    }
    if (!variant.selects.empty()) wrong("expected 'keys' or 'select', got both");
    if (variant.normalize == Normalize::StickBreaking) wrong("expected another normaliser than stick_breaking with lists of keys: they have no order");
  }

  void checkSelects() {
    const std::map<std::string, ExprPtr> outer = std::move(lets);
    const Select *before = nullptr;
    selecting = true;
    for (Select &select : variant.selects) {
      lets.clear();
      for (int size : {select.tileQ, select.keys() ? 16 : select.tileK})
        if (size % 16 || size < 16 || size > 8192)
          report(select.range, "expected tile sizes that are multiples of 16 from 16 to 8192, got " + std::to_string(size));
      if (before && (before->tileQ % std::max(select.tileQ, 1) || before->tileK % std::max(select.tileK, 1)))
        report(select.range, "expected tile sizes that divide those of the round before, " + std::to_string(before->tileQ) + " and " +
                                 std::to_string(before->tileK));
      before = &select;
      if (select.keys() && variant.normalize == Normalize::StickBreaking)
        report(select.range, "expected another normaliser than stick_breaking with 'select keys'", "'select tiles' goes with it");
      keysAlone = select.keys();
      std::set<std::string> names;
      for (Let &let : select.lets) checkInnerLet(let, names);
      bool diagonal = false;
      for (Keep &keep : select.keeps) {
        const bool share = keep.kind == Keep::Kind::TopP, near = keep.kind == Keep::Kind::Near, number = share || near;
        if (keep.kind == Keep::Kind::Condition) demandBool(keep.value);
        if (keep.kind == Keep::Kind::TopK || number) {
          demandFloat(keep.value, "keep");
          if (keep.value->type == Type::Float && !dependsOnPair(*keep.value))
            report(keep.value->range, "expected an estimate that differs from tile to tile, got '" + print(*keep.value) + "'",
                   "as in: let a = dot(mean_before(q), mean(k)) keep topk(a, 8)");
        }
        if (keep.amount) {
          check(keep.amount);
          if (number && keep.amount->type == Type::Int) keep.amount = toFloat(keep.amount);
          if (keep.amount->type != (number ? Type::Float : Type::Int) && keep.amount->type != Type::Unknown)
            report(keep.amount->range, near ? "expected a distance from the greatest estimate" : share ? "expected a share between 0 and 1" : "expected a number of tiles, an int",
                   near ? "as in: keep near(a, 4.0)" : share ? "as in: keep topp(a, 0.95)" : "as in: keep topk(a, 8); floor, ceil and round make ints");
          else if (holdsDot(*keep.amount))
            report(keep.amount->range, "expected an amount that does not hang on an estimate");
        }
        diagonal |= keep.kind == Keep::Kind::Diagonal;
      }
      if (select.keeps.empty())
        report(select.range, "expected at least one 'keep', got none", "as in: keep diagonal");
      else if (causal() && !diagonal)
        report(select.range, "expected 'keep diagonal' in the selection of a causal variant",
               "a query's own tile holds tokens after it, which must not choose what it sees");
    }
    lets = outer;
    selecting = keysAlone = false;
  }

  void checkName(ExprPtr &expr) {
    const std::string name = expr->name;
    if (auto let = lets.find(name); let != lets.end()) {
      expr->kind = Kind::Let;
      expr->args = {let->second};
      expr->type = let->second->type;
      return;
    }
    for (const Constant &constant : variant.constants)
      if (constant.name == name) {
        expr->kind = Kind::Number;
        expr->value = constant.value;
        expr->type = Type::Float;
        return;
      }
    if (dims.count(name)) {
      expr->kind = Kind::Dim;
      expr->type = Type::Int;
      return;
    }
    if (variant.inputNamed(name) >= 0) {
      expr->kind = Kind::Read;
      return checkRead(*expr);
    }
    for (const Let &let : set->lets)
      if (let.name == name) {
        report(expr->range, "expected a name declared above, got '" + name +
                                "', whose let stands below or is this one",
               "a let may use only what stands before it");
        return;
      }
    for (const Let &let : variant.sets[0].lets)
      if (let.name == name) {
        report(expr->range, "expected a name of this block, got '" + name + "', which hangs on the keys of v", "name it again here: j counts other keys");
        return;
      }
    report(expr->range, "unknown name '" + name + "'",
           "names are inputs, constants, lets, dims and the indices b h i j");
  }

  /// Completes a read: leading B, H and G dims are filled in when they were left out.
  void checkRead(Expr &expr) {
    expr.input = variant.inputNamed(expr.name);
    if (expr.input < 0) {
      report(expr.range, "unknown input '" + expr.name + "'", "declare it between ( and )");
      return;
    }
    const Input &input = variant.inputs[expr.input];
    for (ExprPtr &arg : expr.args) {
      check(arg);
      if (arg->type == Type::Unknown) return;
      if (arg->type != Type::Int) {
        report(arg->range, std::string("expected an int as an index, got ") + typeName(arg->type),
               "use floor, ceil or round to make an int");
        return;
      }
    }
    auto implicitIndex = [&](const std::string &dim) -> ExprPtr {
      if (dim != "B" && dim != "H" && dim != "G") return nullptr;
      auto index = std::make_shared<Expr>();
      index->kind = Kind::Index;
      index->range = expr.range;
      index->type = Type::Int;
      index->index = dim == "B" ? Index::b : Index::h;
      return index;
    };
    const size_t rank = input.dims.size();
    size_t leading = 0;
    while (leading < rank && implicitIndex(input.dims[leading])) ++leading;
    const size_t given = expr.args.size();
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
      report(expr.range, "expected " + std::to_string(own) + " index(es) of '" + input.name + "' [" +
                             shape + "] after b and h, got " + std::to_string(given),
             "b and h may be left out or written as themselves; one trailing dim may be left "
             "unindexed for dot");
      return;
    }
    expr.args = std::move(full);
    if (row)
      expr.type = Type::Row;
    else
      expr.type = input.element == ElementClass::Float ? Type::Float
                  : input.element == ElementClass::Int ? Type::Int
                                                       : Type::Bool;
  }

  /// 0: a row of queries (dims T), 1: a row of the set's keys (dims S), -1: neither.
  int rowSide(const Expr &expr) {
    const Input &input = variant.inputs[expr.input];
    if (expr.kind == Kind::Pooled) return input.dims[2] == "T" ? 0 : 1;
    const Expr &index = *expr.args.back();
    if (index.kind == Kind::Index && index.index == Index::i && input.dims[2] == "T") return 0;
    if (index.kind == Kind::Index && index.index == Index::j && input.dims[2] == set->dim) return 1;
    return -1;
  }

  void checkDot(Expr &expr) {
    bool pooled = false, plain = false;
    for (ExprPtr &arg : expr.args) {
      // A tile of one key is summed up by the key itself.
      if (keysAlone && arg->kind == Kind::Name)
        if (const int input = variant.inputNamed(arg->name); input >= 0 && variant.inputs[input].dims.size() == 4 && variant.inputs[input].dims[2] == "S") {
          arg->kind = Kind::Pooled;
          arg->pool = Pool::First;
        }
      if (selecting && arg->kind == Kind::Name && !lets.count(arg->name) && variant.inputNamed(arg->name) >= 0)
        return report(arg->range, "expected pooled rows in the 'dot' of a select, got '" + arg->name + "'", "as in: mean_before(q), mean(k)");
      check(arg);
      if (arg->type == Type::Unknown) return;
      if (arg->type != Type::Row) {
        report(arg->range, std::string("expected a row in 'dot', got ") + typeName(arg->type),
               "a row leaves one trailing dim unindexed, as in q[i] of q: [B, H, T, D]");
        return;
      }
      (arg->kind == Kind::Pooled ? pooled : plain) = true;
      if (rowSide(*arg) < 0) {
        report(arg->range, "expected a row of queries x[i] with dims [B, H, T, D] or a row of keys "
                           "y[j] with dims [B, G, " + set->dim + ", D] in 'dot'");
        return;
      }
    }
    if (plain && (pooled || selecting)) {
      report(expr.range, "expected pooled rows in the 'dot' of a select", "as in: dot(mean_before(q), mean(k))");
      return;
    }
    if (rowSide(*expr.args[0]) == 1) std::swap(expr.args[0], expr.args[1]);
    if (rowSide(*expr.args[0]) != 0 || rowSide(*expr.args[1]) != 1) {
      report(expr.range, "expected one row of queries and one row of keys in 'dot'",
             "as in: dot(q[i], k[j])");
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

  void checkCall(Expr &expr) {
    for (ExprPtr &arg : expr.args) {
      check(arg);
      if (arg->type == Type::Unknown) return;
    }
    auto demand = [&](size_t at, bool ok, const char *what) {
      if (ok) return true;
      report(expr.args[at]->range, std::string("expected ") + what + " in '" +
                                       spelling(expr.function) + "', got " +
                                       typeName(expr.args[at]->type));
      return false;
    };
    auto number = [&](size_t at) {
      const Type type = expr.args[at]->type;
      return demand(at, type == Type::Int || type == Type::Float, "a number");
    };
    auto boolean = [&](size_t at) {
      return demand(at, expr.args[at]->type == Type::Bool, "a condition");
    };
    auto promote = [&](size_t from) {
      bool anyFloat = false;
      for (size_t at = from; at < expr.args.size(); ++at)
        anyFloat |= expr.args[at]->type == Type::Float;
      if (anyFloat)
        for (size_t at = from; at < expr.args.size(); ++at) expr.args[at] = toFloat(expr.args[at]);
      return anyFloat ? Type::Float : Type::Int;
    };
    const Typing typing = typingOf(expr.function);
    switch (typing) {
      case Typing::Same:
      case Typing::Compare:
        for (size_t at = 0; at < expr.args.size(); ++at)
          if (!number(at)) return;
        expr.type = promote(0);
        if (typing == Typing::Compare) expr.type = Type::Bool;
        return;
      case Typing::Float:
      case Typing::ToInt:
        for (size_t at = 0; at < expr.args.size(); ++at) {
          if (!number(at)) return;
          expr.args[at] = toFloat(expr.args[at]);
        }
        expr.type = typing == Typing::Float ? Type::Float : Type::Int;
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
            auto result = std::make_shared<Expr>();
            result->kind = Kind::Call;
            result->range = expr.range;
            result->type = Type::Bool;
            result->function = function;
            result->args = std::move(args);
            return result;
          };
          ExprPtr yes = call(Function::And, {expr.args[0], expr.args[1]});
          ExprPtr no =
              call(Function::And, {call(Function::Not, {expr.args[0]}), expr.args[2]});
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
};

}  // namespace

void checkVariant(Variant &variant, Diagnostics &diagnostics) { Checker(variant, diagnostics).run(); }

}  // namespace weft
