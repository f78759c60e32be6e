// What callers need to know of a checked variant, found once when it is made.
#include <algorithm>

#include "compiler/compiler.h"
#include "compiler/dialect/dialects.h"
#include "compiler/dims.h"
#include "compiler/language/ast.h"
#include "compiler/language/distances.h"
#include "compiler/language/selection.h"
#include "compiler/language/walk.h"
#include "compiler/pipeline.h"
#include "compiler/transforms/build_select.h"

namespace weft {
namespace {

using Pools = std::vector<ast::PooledInput>;

bool has(const auto &list, const auto &value) { return std::find(list.begin(), list.end(), value) != list.end(); }

void collectRows(const ast::Expr &expr, std::vector<int> &rows, ast::Visited &seen) {
  ast::argumentsFirst(expr, seen, [&](const ast::Expr &part) {
    if (part.kind != ast::Expr::Kind::Dot) return true;
    for (const ast::ExprPtr &arg : part.args)
      if (!has(rows, arg->input)) rows.push_back(arg->input);
    return true;
  });
}

/// Inputs that are read row by row: values, and operands of products.
std::vector<int> rowInputs(const ast::Variant &variant, const Pools &pools) {
  std::vector<int> rows;
  ast::Visited seen;
  for (const ast::KeySet &set : variant.sets) {
    rows.push_back(set.values);
    for (const ast::ExprPtr &expr : {set.score, set.weight, set.gate})
      if (expr) collectRows(*expr, rows, seen);
    for (const ast::ExprPtr &expr : set.wheres) collectRows(*expr, rows, seen);
  }
  for (const ast::PooledInput &pooled : pools) rows.push_back(pooled.input);
  return rows;
}

/// Rows of key tiles in the workspace of a select kernel.
int planesOf(const ast::Select &select) {
  auto having = [&](std::initializer_list<ast::Keep::Kind> kinds) {
    return static_cast<int>(std::count_if(select.keeps.begin(), select.keeps.end(),
                                          [&](const ast::Keep &keep) { return has(kinds, keep.kind); }));
  };
  // Products, then estimates in their places; the masses of topp.
  const int ranks = having({ast::Keep::Kind::TopK, ast::Keep::Kind::TopP, ast::Keep::Kind::Near});
  return std::max(ranks, ast::pooledProducts(select)) + (having({ast::Keep::Kind::TopP}) ? ranks : 0);
}

SelectionInfo selectionOf(const ast::Variant &variant, const Pools &pools) {
  SelectionInfo info;
  for (const ast::PooledInput &pooled : pools) {
    const bool keys = variant.inputs[pooled.input].dims[2] != "T";
    info.pools.push_back(
        {"pool." + std::to_string(info.pools.size()), pooled.input, pooled.tile, keys ? pooledBlock : 1});
  }
  for (const ast::Select &select : variant.selects)
    info.rounds.push_back({selectionBuffer(info.rounds.size(), variant.selects.size()), select.tileQ, select.tileK,
                           tilesOfProgram(select.tileK), planesOf(select)});
  return info;
}

/// `per`: what each element of a small input stands for (see VariantFacts).
InputInfo inputOf(const ast::Variant &variant, int position, const std::vector<int> &rows, const Pools &pools,
                  const std::map<std::string, std::string> &per) {
  const ast::Input &input = variant.inputs[position];
  InputInfo info;
  info.name = input.name;
  info.dims = input.dims;
  info.isFloat = input.element == ast::ElementClass::Float;
  info.isInt = input.element == ast::ElementClass::Int;
  info.isBool = input.element == ast::ElementClass::Bool;
  info.values = input.values;
  info.isRow = has(rows, position);
  info.querySide = info.isRow && input.dims[2] == "T";
  info.isPooled =
      std::any_of(pools.begin(), pools.end(), [&](const ast::PooledInput &pooled) { return pooled.input == position; });
  info.hasGradient = info.isFloat && (info.isRow || per.count(input.name) > 0);
  // Where no gradient reaches it: zeros of its own shape.
  const auto found = per.find(input.name);
  const std::string of = found == per.end() ? "any" : found->second;
  info.perEntry = of == "key" || of == "any";
  info.wideSums = info.perEntry && info.hasGradient && !info.isRow && hasWideSums(input.dims);
  if (!info.perEntry) info.gradientDims = {"T"};
  else
    std::ranges::copy_if(input.dims, std::back_inserter(info.gradientDims),
                         [](const std::string &dim) { return !isLeadingDim(dim); });
  return info;
}

/// Two passes own queries or keys, not both.
bool hasTwoPasses(const ast::Variant &variant, const std::map<std::string, std::string> &per) {
  // Which queries look at a key, lists of keys do not say.
  if (variant.selectsKeys() || variant.keys) return false;
  // What hangs on the keys after it follows from a pass over a row's keys, not over a key's queries.
  if (variant.normalizer->ordered) return false;
  // Sums over both axes need the fused form.
  return std::ranges::all_of(variant.inputs, [&](const ast::Input &input) {
    auto found = per.find(input.name);
    return found == per.end() || found->second == "head" || found->second == "query";
  });
}

/// Two passes write a group's gradient once; rows of keys by head, or by other groups, would need one each.
bool hasRowsOfGroups(const std::vector<InputInfo> &inputs) {
  const bool grouped = std::ranges::any_of(inputs, [](const InputInfo &input) { return has(input.dims, "G"); });
  return !grouped || std::ranges::none_of(inputs, [](const InputInfo &input) {
    return input.isRow && !input.querySide && input.dims[1] != "G";
  });
}

}  // namespace

Variant::Variant(std::shared_ptr<const ast::Variant> tree) : checked(std::move(tree)) {
  const Pools pools = ast::pooledInputs(*checked);
  const std::vector<int> rows = rowInputs(*checked, pools);
  const VariantFacts facts = analyse(*checked);
  selectionInfo = selectionOf(*checked, pools);
  for (const ast::KeySet &set : checked->sets) sets.push_back({set.dim, set.values, facts.lists.count(set.dim) > 0});
  if (const auto &list = checked->keys) keys = {list->input, list->tile, checked->inputs[list->input].dims.back()};
  for (size_t at = 0; at < checked->inputs.size(); ++at)
    inputList.push_back(inputOf(*checked, static_cast<int>(at), rows, pools, facts.per));
  twoPass = hasTwoPasses(*checked, facts.per);
  twoPassGrouped = twoPass && hasRowsOfGroups(inputList);
}

std::set<std::string> Variant::listedDims() const {
  std::set<std::string> dims;
  for (const KeySetInfo &set : sets)
    if (set.lists) dims.insert(set.dim);
  return dims;
}
const std::string &Variant::name() const { return checked->name; }
const std::string &Variant::source() const { return checked->source; }
bool Variant::scansKeys() const { return checked->normalizer->ordered; }
bool Variant::hasLogSumExp() const { return checked->normalizer->logSumExp; }
bool Variant::hasDelta() const { return checked->normalizer->delta; }
std::vector<std::string> Variant::keptRows() const { return weft::keptRows(*checked->normalizer, hasWeight()); }
bool Variant::hasWeight() const {
  return std::ranges::any_of(checked->sets, [](const ast::KeySet &set) { return set.weight != nullptr; });
}
bool Variant::seesDistancesAlone() const { return ast::seesDistancesAlone(*checked); }
TileRows Variant::rows() const { return checked->rows(); }
bool Variant::hasDropout() const { return checked->dropout && *checked->dropout > 0; }

}  // namespace weft
