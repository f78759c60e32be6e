#include "compiler/compiler.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "compiler/default_schedule.h"
#include "compiler/dialect/dialects.h"
#include "compiler/internal_error.h"
#include "compiler/language/ast.h"
#include "compiler/language/checker.h"
#include "compiler/language/parser.h"
#include "compiler/language/selection.h"
#include "compiler/language/walk.h"
#include "compiler/pipeline.h"
#include "compiler/target/cpu/object_code.h"
#include "compiler/target/target.h"
#include "compiler/transforms/build_select.h"

namespace weft {

const char *name(ElementType type) {
  switch (type) {
    case ElementType::F32: return "f32";
    case ElementType::BF16: return "bf16";
    case ElementType::F16: return "f16";
    case ElementType::I32: return "i32";
    case ElementType::Bool: return "bool";
  }
  return "?";
}

int64_t bytesOf(ElementType type) {
  switch (type) {
    case ElementType::F32:
    case ElementType::I32: return 4;
    case ElementType::BF16:
    case ElementType::F16: return 2;
    case ElementType::Bool: return 1;
  }
  return 4;
}

namespace {

void collectRows(const ast::Expr &expr, std::vector<int> &rows, ast::Visited &seen) {
  ast::argumentsFirst(expr, seen, [&](const ast::Expr &part) {
    if (part.kind != ast::Expr::Kind::Dot) return true;
    for (const ast::ExprPtr &arg : part.args)
      if (std::find(rows.begin(), rows.end(), arg->input) == rows.end()) rows.push_back(arg->input);
    return true;
  });
}

}  // namespace

Variant::Variant(std::shared_ptr<const ast::Variant> tree) : checked(std::move(tree)) {
  std::vector<int> rows;
  ast::Visited seen;
  for (const ast::KeySet &set : checked->sets) {
    rows.push_back(set.values);
    for (const ast::ExprPtr &expr : {set.score, set.weight, set.gate})
      if (expr) collectRows(*expr, rows, seen);
    for (const ast::ExprPtr &expr : set.wheres) collectRows(*expr, rows, seen);
  }
  const std::vector<ast::PooledInput> pools = ast::pooledInputs(*checked);
  for (const ast::PooledInput &pooled : pools) {
    const bool keys = checked->inputs[pooled.input].dims[2] != "T";
    selectionInfo.pools.push_back(
        {"pool." + std::to_string(selectionInfo.pools.size()), pooled.input, pooled.tile, keys ? tile::flatBlock : 1});
    rows.push_back(pooled.input);
  }
  for (const ast::Select &select : checked->selects) {
    auto having = [&](std::initializer_list<ast::Keep::Kind> kinds) {
      return static_cast<int>(std::count_if(select.keeps.begin(), select.keeps.end(), [&](const ast::Keep &keep) {
        return std::count(kinds.begin(), kinds.end(), keep.kind);
      }));
    };
    // Products, then estimates in their places; the masses of topp.
    const int ranks = having({ast::Keep::Kind::TopK, ast::Keep::Kind::TopP, ast::Keep::Kind::Near});
    const int planes = std::max(ranks, ast::pooledProducts(select)) + (having({ast::Keep::Kind::TopP}) ? ranks : 0);
    const size_t round = selectionInfo.rounds.size();
    selectionInfo.rounds.push_back({selectionBuffer(round, checked->selects.size()), select.tileQ, select.tileK,
                                    tilesTogether(select.tileK), planes});
  }
  const VariantFacts facts = analyse(*checked);
  for (const ast::KeySet &set : checked->sets) sets.push_back({set.dim, set.values, facts.lists.count(set.dim) > 0});
  if (checked->selectsKeys()) twoPass = twoPassGrouped = false;
  if (checked->keys) {
    keys = {checked->keys->input, checked->keys->tile, checked->inputs[checked->keys->input].dims.back()};
    twoPass = twoPassGrouped = false;  // which queries look at a key, its lists do not say
  }
  // What hangs on the keys after it follows from a pass over a row's keys, not over a key's queries.
  if (checked->normalizer->ordered) twoPass = twoPassGrouped = false;
  bool grouped = false;
  for (const ast::Input &input : checked->inputs)
    grouped |= std::find(input.dims.begin(), input.dims.end(), "G") != input.dims.end();
  for (size_t at = 0; at < checked->inputs.size(); ++at) {
    const ast::Input &input = checked->inputs[at];
    InputInfo info;
    info.name = input.name;
    info.dims = input.dims;
    info.isFloat = input.element == ast::ElementClass::Float;
    info.isInt = input.element == ast::ElementClass::Int;
    info.isBool = input.element == ast::ElementClass::Bool;
    info.isRow = std::find(rows.begin(), rows.end(), static_cast<int>(at)) != rows.end();
    info.querySide = info.isRow && input.dims[2] == "T";
    info.isPooled = std::any_of(pools.begin(), pools.end(),
                                [&](const ast::PooledInput &pooled) { return pooled.input == static_cast<int>(at); });
    if (auto found = facts.per.find(input.name); found != facts.per.end()) {
      const std::string &per = found->second;
      info.partialKind = per == "head" ? 0 : per == "query" ? 1 : per == "key" ? 2 : 3;
      // Two passes own queries or keys, not both: sums over both axes need the fused form.
      if (info.partialKind >= 2) twoPass = twoPassGrouped = false;
    } else {
      info.partialKind = 3;  // no gradient reaches it: zeros of its own shape
    }
    // Two passes write a group's gradient once; an input by head would need one a head.
    if (grouped && info.isRow && !info.querySide && input.dims[1] == "H") twoPassGrouped = false;
    inputList.push_back(std::move(info));
  }
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
bool Variant::hasDropout() const { return checked->dropout && *checked->dropout > 0; }

ParseResult parse(std::string_view source, std::string_view fileName) {
  ParseResult result;
  Diagnostics diagnostics(source, fileName);
  const ParsedVariants variants = parseFile(source, diagnostics);
  for (const auto &variant : variants)
    if (!diagnostics.full()) checkVariant(*variant, diagnostics);
  result.diagnostics = diagnostics.take();
  if (!result.diagnostics.empty()) return result;
  for (const auto &variant : variants) {
    try {
      result.variants.push_back(std::make_shared<const Variant>(variant));
    } catch (const InternalError &error) {
      result.diagnostics.push_back(makeDiagnostic(source, fileName, variant->range, error.what()));
      result.variants.clear();
      break;
    }
  }
  return result;
}

CompileResult compile(const CompileRequest &request) {
  CompileResult result;
  auto fail = [&](std::string message) {
    result.error = std::move(message);
    return result;
  };
  if (!request.variant) return fail("expected a variant, got none");
  if (request.type != ElementType::F32 && request.type != ElementType::BF16 && request.type != ElementType::F16)
    return fail(std::string("expected element type f32, bf16 or f16, got ") + name(request.type));
  if (std::string wrong = illegal(request.schedule, *request.variant); !wrong.empty()) return fail(std::move(wrong));
  for (const InputInfo &input : request.variant->inputs()) {
    if (!input.isRow) continue;
    auto found = request.dims.find(input.dims.back());
    if (found == request.dims.end() || found->second < 1 || found->second > 256)
      return fail("expected dim " + input.dims.back() + " of input '" + input.name + "' from 1 to 256, got " +
                  (found == request.dims.end() ? "none" : std::to_string(found->second)));
  }
  if (!target::targetOf(request.target).knows(request.target))
    return fail(
        "expected \"host\", a CPU that LLVM knows (llc -mcpu=help lists them) or a GPU from \"sm_80\" on, got \"" +
        request.target + "\"");
  auto all = kernelNames(*request.variant, true);
  if (std::find(all.begin(), all.end(), request.kernel) == all.end()) {
    std::string list;
    for (const std::string &known : all) list += " " + known;
    return fail("variant '" + request.variant->name() + "' has no kernel '" + request.kernel + "'; it has:" + list);
  }
  try {
    return runPipeline(request);
  } catch (const InternalError &error) {
    return fail(error.what());
  }
}

std::vector<std::string> kernelNames(const Variant &variant, bool backward) {
  std::vector<std::string> names;
  for (size_t at = 0; at < variant.selection().pools.size(); ++at) names.push_back("pool_" + std::to_string(at));
  for (size_t at = 0; at < variant.selection().rounds.size(); ++at) names.push_back("select_" + std::to_string(at));
  if (variant.selectsKeys()) names.push_back("list_keys");
  for (const KeySetInfo &set : variant.keySets())
    names.push_back(ofKeys(set.lists ? "plan_lists" : "plan_band", set.dim));
  names.push_back("forward");
  if (!backward) return names;
  if (variant.hasDelta()) names.push_back("backward_delta");
  names.push_back("backward");
  if (variant.hasTwoPassBackward(false)) {
    names.push_back("backward_dq");
    for (const KeySetInfo &set : variant.keySets()) {
      names.push_back(ofKeys("backward_dkdv", set.dim));
      if (set.lists) names.push_back(ofKeys("plan_lists_keys", set.dim));
    }
  }
  return names;
}

CpuFacts cpuFacts(const std::string &target) {
  const target::Machine machine = cpu::machineOf(target);
  return {machine.lanes, machine.registers, machine.amx};
}

bool isGpu(const std::string &target) { return target::targetOf(target).isGpu(); }

const char *buildIdentity() { return WEFT_BUILD_IDENTITY; }
std::string hostIdentity() { return cpu::hostDescription(); }

}  // namespace weft
