#include "ops/inspection.h"

#include <algorithm>
#include <stdexcept>

#include <torch/library.h>
#include <torch/types.h>

#include <nlohmann/json.hpp>

#include "compiler/call_plan.h"
#include "compiler/description.h"
#include "compiler/terms.h"
#include "ops/attention.h"
#include "ops/binding.h"
#include "ops/broadcast.h"
#include "ops/devices.h"
#include "ops/schedules.h"
#include "ops/variant_library.h"
#include "runtime/environment.h"
#include "runtime/ptxas.h"
#include "runtime/schedule.h"

namespace weft::ops {
namespace {

using Json = nlohmann::ordered_json;
using Names = std::vector<std::string>;

/// The buffers and kernels of the pass that `kernel` belongs to.
std::string planText(const CompileRequest &request) {
  const std::string &kernel = request.kernel;
  CallForm form;
  if (kernel.starts_with("backward")) form.purpose = Purpose::Backward;
  form.wideSums = !isGpu(request.target);
  if (kernel == "backward_queries") form.backward = BackwardForm::FusedQueries;
  else if (kernel.starts_with("backward_keys") || kernel == "backward_sink") form.backward = BackwardForm::FusedKeys;
  else if (kernel.starts_with("backward_d") && kernel != "backward_delta") form.backward = BackwardForm::TwoPass;
  const auto all = kernelNames(*request.variant, true, isGpu(request.target));
  if (std::ranges::find(all, kernel) == all.end()) throw std::runtime_error("no kernel '" + kernel + "'");
  return print(planCall(*request.variant, request.type, request.schedule, form));
}

constexpr struct {
  const char *name;
  Stage stage;
} stages[] = {
    {"ast", Stage::Ast},      {"weft", Stage::Weft},      {"tile", Stage::Tile},     {"vector", Stage::Vector},
    {"llvm", Stage::Llvm},    {"asm", Stage::Assembly},   {"obj", Stage::Object},    {"nvvm", Stage::Vector},
    {"ptx", Stage::Assembly}, {"cubin", Stage::Assembly}, {"sass", Stage::Assembly}, {"plan", Stage::Tile},
};

ElementType typeNamed(const std::string &text) {
  if (const auto type = rowTypeNamed(text)) return *type;
  throw std::runtime_error("expected f32, bf16, f16 or f64 as the type, got '" + text + "'");
}

/// A number, or the text of one that hangs on sizes; null where that side is open.
Json json(const std::optional<Bound> &bound) {
  if (!bound) return nullptr;
  return bound->dim.empty() ? Json(bound->offset) : Json(print(*bound));
}

Json rangeOf(const InputRange &values) {
  return {{"text", print(values)},
          {"low", json(values.low)},
          {"high", json(values.high)},
          {"typical_low", json(values.typicalLow)},
          {"typical_high", json(values.typicalHigh)},
          {"rising", values.rising}};
}

Json descriptionOf(const Variant &variant) {
  Json inputs = Json::array();
  for (const InputInfo &input : variant.inputs())
    inputs.push_back({{"name", input.name},
                      {"type", input.isFloat ? "float"
                               : input.isInt ? "int"
                                             : "bool"},
                      {"dims", input.dims},
                      {"values", rangeOf(input.values)},
                      {"row", input.isRow},
                      {"gradient", input.hasGradient}});
  const VariantDescription own = weft::describe(variant);
  Json constants = Json::object();
  for (const auto &[name, value] : own.constants) constants[name] = value;
  return {{"name", variant.name()}, {"source", variant.source()},           {"inputs", inputs},
          {"constants", constants}, {"normalize", own.normalizer},          {"selects", variant.selects()},
          {"dropout", own.dropout}, {"log_sum_exp", variant.hasLogSumExp()}};
}

std::string emit(const std::string &variant, const std::string &stage, const std::string &target,
                 const std::string &kernel, const std::string &dtype, int64_t headDim, int64_t terms) {
  CompileRequest request;
  request.variant = variantWithTerms(variant, terms);
  request.target = target == "cpu" ? "host" : target;
  request.kernel = kernel;
  request.type = typeNamed(dtype);
  for (const InputInfo &input : request.variant->inputs())
    if (input.isRow) request.dims[input.dims.back()] = headDim;
  request.schedule =
      deviceSchedule(*request.variant, request.type, request.dims, request.target, kernel.starts_with("backward"));
  std::string note;
  return stageText(request, stage, note);
}

/// What a direction of a call runs. The backward pass has what the forward one drew and chose.
CallPlan planOf(const std::shared_ptr<const Variant> &variant, const Names &names, at::TensorList tensors,
                const CallShape &shape, const Device &device, const Schedule &schedule, bool backward) {
  KernelSet set(variant, elementType(shape.type), shape.headDims, device, schedule);
  CallForm form = Binding(set, names, tensors).form(backward ? Purpose::Backward : Purpose::Forward);
  form.seedGiven |= variant->hasDropout();
  form.selectionGiven |= variant->selects() && (backward || set.type == ElementType::F64);
  return planCall(*variant, set.type, schedule, form);
}

/// What a call does, direction by direction.
std::string explain(const std::string &variant, const c10::List<std::string> &given, at::TensorList tensors) {
  const Names names(given.begin(), given.end());
  const auto own = variantOfCall(variant, names, tensors);
  std::vector<at::Tensor> list = tensors.vec();
  if (auto wide = broadcast(Signature(own, names, list.size()), list)) list = *wide;
  const KeptTiles kept = keptTiles(variant, names, list);
  const CallShape shape = shapeOf(own, names, list);
  const Device device = deviceOf(tensors);
  Json result{{"variant", own->name()}, {"device", weft::name(device)},
              {"B", shape.B},           {"H", shape.H},
              {"T", shape.T},           {"S", shape.S},
              {"tiles", kept.total},    {"kept", kept.kept},
              {"reach", kept.reach},    {"keys", kept.keys}};
  for (const bool backward : {false, true}) {
    const char *direction = backward ? "backward" : "forward";
    const Schedule schedule = chosenSchedule(*own, shape, device, backward);
    const CallPlan plan = planOf(own, names, list, shape, device, schedule, backward);
    result[direction] = weft::describe(schedule, targetOf(device));
    result["plan"][direction] = print(plan);
    for (const CallPlan::Step &step : plan.steps) result["kernels"][direction].push_back(step.kernel);
  }
  return result.dump();
}

Names library() {
  Names names;
  for (const LibraryVariant &own : variantLibrary()) names.push_back(own.name);
  return names;
}

at::Tensor shares(const std::string &variant, const c10::List<std::string> &names, at::TensorList tensors) {
  return maskShares(variant, Names(names.begin(), names.end()), {tensors.begin(), tensors.end()});
}

}  // namespace

std::shared_ptr<const Variant> variantWithTerms(const std::string &variant, int64_t terms) {
  auto found = findVariant(variant);
  std::map<std::string, int64_t> sizes;
  for (const std::string &dim : termDims(*found)) sizes[dim] = terms;
  return sizes.empty() ? found : findVariant(sourceWith(*found, sizes));
}

const Names &stageNames() {
  static const Names names = [] {
    Names all;
    for (const auto &own : stages) all.push_back(own.name);
    return all;
  }();
  return names;
}

std::string stageText(CompileRequest request, const std::string &stage, std::string &note) {
  const auto known = std::ranges::find_if(stages, [&](const auto &own) { return stage == own.name; });
  if (known == std::end(stages)) {
    std::string all;
    for (const std::string &own : stageNames()) all += " " + own;
    throw std::runtime_error("no stage '" + stage + "'; there are:" + all);
  }
  if (stage == "plan") return planText(request);
  request.stage = known->stage;
  request.dumpDirectory = environment::dumpDirectory();
  const bool machine = stage == "cubin" || stage == "sass";
  if ((machine || stage == "ptx" || stage == "nvvm") && !isGpu(request.target))
    throw std::runtime_error("expected a GPU (sm_80, sm_90a, ...) as the target of " + stage + ", got '" +
                             (request.target == "host" ? "cpu" : request.target) + "'");
  const CompileResult result = compile(request);
  if (!result.error.empty()) throw std::runtime_error(result.error);
  if (request.stage == Stage::Object) return result.image.code;
  if (!machine) return result.text;
  const Assembled assembled = assemble(result.text, request.target);
  note = std::to_string(assembled.registers) + " registers, " + std::to_string(assembled.spillBytes) + " bytes spilled";
  return stage == "cubin" ? assembled.cubin : disassemble(assembled.cubin);
}

TORCH_LIBRARY_FRAGMENT(weft, library) {
  library.def("library() -> str[]", ops::library);
  library.def("describe(str variant) -> str",
              [](const std::string &variant) { return descriptionOf(*findVariant(variant)).dump(); });
  library.def("emit(str variant, str stage, str target, str kernel, str dtype, int head_dim, int terms=8) -> str",
              emit);
  library.def("explain(str variant, str[] names, Tensor[] tensors) -> str");
  library.def("mask_shares(str variant, str[] names, Tensor[] tensors) -> Tensor");
}
TORCH_LIBRARY_IMPL(weft, CompositeExplicitAutograd, library) {
  library.impl("explain", explain);
  library.impl("mask_shares", shares);
}

}  // namespace weft::ops
