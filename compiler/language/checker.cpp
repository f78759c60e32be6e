#include "compiler/language/checker.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "compiler/dims.h"
#include "compiler/kernel_image.h"
#include "compiler/language/check_expressions.h"
#include "compiler/language/cost.h"
#include "compiler/language/grouped.h"
#include "compiler/language/guards.h"
#include "compiler/language/origin.h"
#include "compiler/language/selection.h"
#include "compiler/language/walk.h"
#include "compiler/origin_dims.h"

namespace weft {
namespace {

using namespace ast;
using Kind = Expr::Kind;

class Checker {
 public:
  Checker(Variant &variant, Diagnostics &diagnostics) : variant(variant), diagnostics(diagnostics) {}

  void run() {
    checkInputs();
    scope.set = &variant.sets[0];
    scope.set->range = variant.range;
    for (Let &let : scope.set->lets) {
      declare(let.name, let.range);
      checkLet(let);
    }
    checkPair();
    demandFloat(variant.sink, "sink");
    if (variant.sink && dependsOnPair(*variant.sink))
      report(variant.sink->range, "expected a sink of b and h only, got one of i or j", "as in: sink c[h]");
    checkSelects();
    if (variant.keys) checkKeys(*variant.keys);
    if (variant.lengths >= 0) checkLengths();
    for (size_t at = 1; at < variant.sets.size(); ++at) checkAlso(variant.sets[at]);
    if (variant.sink && !variant.normalizer->sink)
      report(variant.sink->range, "expected 'normalize softmax' with a sink");
    for (const KeySet &set : variant.sets)
      if (set.weight && !variant.normalizer->weight)
        report(set.weight->range, std::string("expected no weight with ") + variant.normalizer->name,
               "none is agreed on: a term of the score says how much a pair counts, a gate scales what it adds");
    // What the parser reported may have left names that mean nothing, of which nothing more is said above.
    if (!diagnostics.empty()) return;
    if (variant.grouped || variant.pieces) checkGrouped();
    if (!diagnostics.empty()) return;
    if (variant.origin || variant.lengths >= 0) placeIndices(variant);
    if (variant.grouped) groupHeads(variant);
    guardIndices(variant);
    if (compileSteps(variant) > mostSteps)
      report(variant.range,
             "expected a variant of at most " + std::to_string(mostSteps) +
                 " steps for each pair, got more: its kernels would take long to compile",
             "an operation is 1 step, exp 10, sin 25, an int mod or pow 40, a gathered float 60, a product of rows "
             "100; compute "
             "what does not hang on the pair beforehand and give it as an input");
  }

 private:
  Variant &variant;
  Diagnostics &diagnostics;
  std::set<std::string> declared;
  Scope scope;
  ExpressionChecker expressions{variant, diagnostics, scope};

  void report(SourceRange range, std::string_view message, std::string_view hint = {}) {
    diagnostics.report(range, message, hint);
  }

  void declare(const std::string &name, SourceRange range) {
    if (!declared.insert(name).second)
      report(range, "expected a new name, got '" + name + "', which is already declared");
    else if (scope.dims.count(name)) report(range, "expected a new name, got '" + name + "', which is a dim");
  }

  void checkInputs() {
    for (const Input &input : variant.inputs)
      for (const std::string &dim : input.dims) scope.dims.insert(dim);
    for (const Input &input : variant.inputs) {
      declare(input.name, input.range);
      for (size_t at = 0; at < input.dims.size(); ++at) {
        const std::string &dim = input.dims[at];
        if (dim == "page" || dim == "pages" || std::ranges::count(originDims, dim))
          report(input.range, "expected another dim than '" + dim + "', which is one of the kernels");
        if (dim == "B" && at != 0) report(input.range, "expected B to be the first dim of '" + input.name + "'");
        const bool afterBatch = at == 0 || (at == 1 && input.dims[0] == "B");
        if (isHeadDim(dim) && !afterBatch)
          report(input.range, "expected " + dim + " to stand first or after B in '" + input.name + "'");
      }
    }
    for (const Input &input : variant.inputs)
      for (const std::string &dim : input.dims)
        if (isGroupDim(dim) && !scope.dims.count("G"))
          report(input.range, "expected the dim G beside " + dim + ", got none",
                 "G counts the fewest groups of heads, " + dim + " a multiple of them");
    for (const Input &input : variant.inputs) checkValues(input);
    for (const Input &input : variant.inputs) {
      auto among = [&](const auto &names) { return std::ranges::count(names, input.name) > 0; };
      bool reserved = among(ownTensors) || input.name == "lse" || among(ownTensorsOfKeys);
      for (const Input &other : variant.inputs) reserved |= input.name == "d" + other.name;
      if (reserved)
        report(input.range, "expected another name than '" + input.name + "', which is a tensor of the kernels");
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
        !isHeadDim(value.dims[1]) || value.dims[2] != "S")
      report(value.range, "expected v: [B, H, S, E] or v: [B, G, S, E], got another shape");
    if (!scope.dims.count("T") || !scope.dims.count("H"))
      report(variant.range, "expected inputs that name the dims T and H, got none", "as in: q: [B, H, T, D]");
  }

  /// The declared range and typical values of an input.
  void checkValues(const Input &input) {
    const InputRange &values = input.values;
    if (values.empty()) return;
    auto wrong = [&](const std::string &what) { report(input.valuesRange, what); };
    if (input.element == ElementClass::Bool) return wrong("expected no range of a bool");
    if (values.rising && input.dims.empty()) return wrong("expected a dim along which '" + input.name + "' rises");
    for (const auto *bound : {&values.low, &values.high, &values.typicalLow, &values.typicalHigh}) {
      if (!*bound) continue;
      if (!(*bound)->dim.empty() && !scope.dims.count((*bound)->dim))
        return wrong("expected a dim of the inputs as a bound, got '" + (*bound)->dim + "'");
      if (!((*bound)->divisor > 0)) return wrong("expected a divisor above 0");
      const double offset = (*bound)->offset;
      if (input.element == ElementClass::Int && (offset != std::floor(offset) || std::fabs(offset) > 0x1p30))
        return wrong("expected whole bounds of an int, up to 2^30");
    }
    // Of one dim in the same measure, or of none, bounds have an order whatever the sizes.
    auto after = [](const std::optional<Bound> &a, const std::optional<Bound> &b) {
      return a && b && a->dim == b->dim && a->divisor == b->divisor && a->offset > b->offset;
    };
    if (after(values.low, values.high) || after(values.typicalLow, values.typicalHigh))
      return wrong("expected the lower bound first");
    if (after(values.low, values.typicalLow) || after(values.typicalHigh, values.high))
      wrong("expected typical values inside of the range");
  }

  /// True where a checked `expr` holds i, j or a dot.
  bool dependsOnPair(const Expr &expr) {
    return depends(expr, onPair, [](Index index) { return index == Index::i || index == Index::j; });
  }
  /// True where it holds j or a dot.
  bool dependsOnKey(const Expr &expr) {
    return depends(expr, onKey, [](Index index) { return index == Index::j; });
  }

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
    expressions.check(let.value);
    if (let.value->type == Type::Row)
      report(let.range, "expected a scalar in a let, got a row", "name the dot instead");
    scope.lets[let.name] = let.value;
  }
  /// A let of a block, which may have the name of one outside it.
  void checkInnerLet(Let &let, std::set<std::string> &own) {
    if (variant.inputNamed(let.name) >= 0 || scope.dims.count(let.name) || !own.insert(let.name).second)
      report(let.range, "expected a new name, got '" + let.name + "', which is already declared");
    scope.lets.erase(let.name);
    checkLet(let);
  }

  /// The statements of a set of keys, besides its lets.
  void checkPair() {
    if (!scope.set->score)
      report(scope.set->range, "expected a 'score', got none", "as in: score dot(q[i], k[j]) / sqrt(D)");
    for (ExprPtr &where : scope.set->wheres) demandBool(where);
    demandFloat(scope.set->score, "score");
    demandFloat(scope.set->weight, "weight");
    demandFloat(scope.set->gate, "gate");
  }

  void checkAlso(KeySet &also) {
    if (also.values < 0 || variant.sets[0].values < 0) return;
    const Input &own = variant.inputs[also.values], &main = variant.inputs[variant.sets[0].values];
    const char *hint = "as in: also sv { ... }   with sk: [B, H, N, D], sv: [B, H, N, E]";
    if (own.element != ElementClass::Float || own.dims.size() != 4 || own.dims[0] != "B" || !isHeadDim(own.dims[1]) ||
        own.dims[3] != main.dims.back())
      return report(also.range,
                    "expected values [B, H, N, " + main.dims.back() + "] or [B, G, N, " + main.dims.back() +
                        "] like 'v', got '" + own.name + "'",
                    hint);
    also.dim = own.dims[2];
    bool taken = also.dim == "T" || (variant.keys && variant.keys->input >= 0 &&
                                     variant.inputs[variant.keys->input].dims.back() == also.dim);
    for (const KeySet &other : variant.sets) taken |= &other != &also && other.dim == also.dim;
    if (taken) return report(also.range, "expected a dim of its own for the number of its keys, got " + also.dim, hint);
    if (variant.normalizer->ordered)
      report(also.range, std::string("expected another normaliser than ") + variant.normalizer->name +
                             " with 'also': its keys do not follow those of v");
    const std::map<std::string, ExprPtr> outer = scope.lets;
    std::erase_if(scope.lets, [&](const auto &let) { return dependsOnKey(*let.second); });
    scope.set = &also;
    std::set<std::string> names;
    for (Let &let : also.lets) checkInnerLet(let, names);
    checkPair();
    scope.set = &variant.sets[0];
    scope.lets = outer;
  }

  void demandBool(ExprPtr &expr) {
    expressions.check(expr);
    if (expr->type != Type::Bool && expr->type != Type::Unknown)
      report(expr->range, std::string("expected a condition after 'where', got ") + typeName(expr->type),
             "as in: where i >= j");
  }

  void demandFloat(ExprPtr &expr, const char *statement) {
    if (!expr) return;
    expressions.check(expr);
    // A weight or gate that is a condition counts 1 where it holds; a score that is one was meant as a mask.
    if (expr->type == Type::Bool && std::string_view(statement) != "score") expr = expressions.toNumber(expr);
    if (expr->type == Type::Int) expr = expressions.toFloat(expr);
    if (expr->type != Type::Float && expr->type != Type::Unknown)
      report(expr->range, std::string("expected a number after '") + statement + "', got " + typeName(expr->type),
             expr->type == Type::Bool ? "pairs are left out by: where i >= j" : "");
  }

  void checkKeys(KeyList &keys) {
    const Expr &expr = *keys.expr;
    const char *hint =
        "as in: keys = list[h]   with list: int [H, N],   keys = list[i div 64]   with list: int [B, H, M, N]   or   "
        "keys = "
        "list[i]   with list: int [B, H, T, N]";
    auto wrong = [&](const std::string &message) { report(expr.range, message, hint); };
    keys.input = expr.kind == Kind::Name || expr.kind == Kind::Read ? variant.inputNamed(expr.name) : -1;
    if (keys.input < 0)
      return wrong("expected an input after 'keys =', got " +
                   (expr.kind == Kind::Call ? "an expression" : "'" + print(expr) + "'"));
    const Input &input = variant.inputs[keys.input];
    size_t leading = 0;
    while (leading < input.dims.size() && isLeadingDim(input.dims[leading])) ++leading;
    const size_t own = input.dims.size() - leading;
    if (input.element != ElementClass::Int || own < 1 || own > 2)
      return wrong("expected lists of keys int [B, H, N] or int [B, H, M, N], got '" + input.name + "'");
    if (input.dims.back() == "T" || input.dims.back() == "S")
      return wrong("expected a dim of its own for the length of the lists, got " + input.dims.back());
    std::vector<ExprPtr> args = expr.args;
    while (!args.empty() && args[0]->kind == Kind::Index && (args[0]->index == Index::b || args[0]->index == Index::h))
      args.erase(args.begin());
    if (args.size() + 1 != own)
      return wrong("expected " + std::to_string(own - 1) + " index(es) of '" + input.name + "' besides b and h, got " +
                   std::to_string(args.size()));
    if (own == 2 && args[0]->kind == Kind::Index && args[0]->index == Index::i) {
      if (input.dims[leading] != "T")
        return wrong("expected the dim T for a list of each query, got " + input.dims[leading]);
      keys.tile = 1;
    } else if (own == 2) {
      // i div c, or floor(i / c)
      const Expr *index = args[0].get();
      auto calls = [&](Function function) { return index->kind == Kind::Call && index->function == function; };
      if (calls(Function::Floor)) index = index->args[0].get();
      const bool divided = calls(index == args[0].get() ? Function::FloorDiv : Function::Div);
      const Expr *from = divided ? index->args[0].get() : nullptr, *by = divided ? index->args[1].get() : nullptr;
      if (!divided || from->kind != Kind::Index || from->index != Index::i || by->kind != Kind::Number)
        return wrong("expected a list for each query, i, or for each tile of queries: i div 64");
      keys.tile = static_cast<int>(std::min(by->value, 1e6));
      if (keys.tile != by->value || keys.tile % 16 || keys.tile < 16 || keys.tile > 8192)
        return wrong("expected lists for a multiple of 16 queries from 16 to 8192, got " + print(*by));
    }
    if (!variant.selects.empty()) wrong("expected 'keys' or 'select', got both");
    if (variant.normalizer->ordered)
      wrong(std::string("expected another normaliser than ") + variant.normalizer->name +
            " with lists of keys: they have no order");
  }

  /// What is made of all of a sequence cannot be made of its newest queries.
  void checkLengths() {
    const SourceRange range = variant.inputs[variant.lengths].range;
    const std::string expected = "expected no 'lengths' in a variant with ";
    if (variant.origin) report(range, expected + "'origin', which says where all sequences stand");
    if (!variant.selects.empty()) report(range, expected + "a 'select', which chooses tiles of whole sequences");
    if (variant.keys && variant.keys->tile > 0)
      report(range, expected + "lists of keys for each of its queries, or tiles of them");
    if (variant.dropout) report(range, expected + "'dropout', which drops pairs of whole sequences");
  }

  void checkGrouped() {
    if (!variant.origin && variant.lengths < 0)
      report(variant.range, "expected 'origin' or 'lengths' beside 'grouped': they say where the one query stands");
    if (const char *unfit = notGrouped(variant))
      report(variant.range, std::string("expected no 'grouped' in a variant with ") + unfit);
    if (variant.pieces && !variant.grouped)
      report(variant.range, "expected 'grouped' beside 'pieces': its heads are pieces of the keys of a group");
    if (variant.pieces && variant.normalizer->joining == Joining::None)
      report(variant.range, std::string("expected no 'pieces' with 'normalize ") + variant.normalizer->name +
                                "': a query needs all of its keys at once");
  }

  void checkSelects() {
    const std::map<std::string, ExprPtr> outer = std::move(scope.lets);
    const Select *before = nullptr;
    scope.selecting = true;
    for (Select &select : variant.selects) {
      scope.lets.clear();
      for (int size : {select.tileQ, select.keys() ? 16 : select.tileK})
        if (size % 16 || size < 16 || size > 8192)
          report(select.range,
                 "expected tile sizes that are multiples of 16 from 16 to 8192, got " + std::to_string(size));
      if (before && (before->tileQ % std::max(select.tileQ, 1) || before->tileK % std::max(select.tileK, 1)))
        report(select.range, "expected tile sizes that divide those of the round before, " +
                                 std::to_string(before->tileQ) + " and " + std::to_string(before->tileK));
      before = &select;
      if (select.keys() && variant.normalizer->ordered)
        report(select.range,
               std::string("expected another normaliser than ") + variant.normalizer->name + " with 'select keys'",
               "'select tiles' goes with it");
      scope.keysAlone = select.keys();
      std::set<std::string> names;
      for (Let &let : select.lets) checkInnerLet(let, names);
      bool diagonal = false;
      for (Keep &keep : select.keeps) {
        const bool share = keep.kind == Keep::Kind::TopP, near = keep.kind == Keep::Kind::Near, number = share || near;
        if (keep.kind == Keep::Kind::Condition) demandBool(keep.value);
        if (keep.kind == Keep::Kind::TopK || number) {
          demandFloat(keep.value, "keep");
          if (keep.value->type == Type::Float && !dependsOnPair(*keep.value))
            report(keep.value->range,
                   "expected an estimate that differs from tile to tile, got '" + print(*keep.value) + "'",
                   "as in: let a = dot(mean_before(q), mean(k)) keep topk(a, 8)");
        }
        if (keep.amount) {
          expressions.check(keep.amount);
          if (number && keep.amount->type == Type::Int) keep.amount = expressions.toFloat(keep.amount);
          if (keep.amount->type != (number ? Type::Float : Type::Int) && keep.amount->type != Type::Unknown)
            report(keep.amount->range,
                   near    ? "expected a distance from the greatest estimate"
                   : share ? "expected a share between 0 and 1"
                           : "expected a number of tiles, an int",
                   near    ? "as in: keep near(a, 4.0)"
                   : share ? "as in: keep topp(a, 0.95)"
                           : "as in: keep topk(a, 8); floor, ceil and round make ints");
          else if (holdsDot(*keep.amount))
            report(keep.amount->range, "expected an amount that does not hang on an estimate");
        }
        diagonal |= keep.kind == Keep::Kind::Diagonal;
      }
      if (select.keeps.empty()) report(select.range, "expected at least one 'keep', got none", "as in: keep diagonal");
      else if (expressions.causal() && !diagonal)
        report(select.range, "expected 'keep diagonal' in the selection of a causal variant",
               "a query's own tile holds tokens after it, which must not choose what it sees");
    }
    scope.lets = outer;
    scope.selecting = scope.keysAlone = false;
  }
};

}  // namespace

void checkVariant(Variant &variant, Diagnostics &diagnostics) { Checker(variant, diagnostics).run(); }

}  // namespace weft
