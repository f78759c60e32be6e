#include "models/variant_inputs.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "models/spelling.h"
#include "ops/variant_library.h"

namespace weft {

using torch::Tensor;

namespace {

constexpr int64_t hiddenWidth = 64;
/// A learned number begins no nearer to the ends of its range than this share of it, where it would learn nothing.
constexpr double edge = 0.01;

/// Of a call as long as the model's context.
std::map<std::string, int64_t> sizesOf(const ModelConfig &config) {
  return {{"T", config.context}, {"S", config.context}};
}
bool isOf(const InputInfo &input, std::initializer_list<const char *> dims) {
  return std::equal(input.dims.begin(), input.dims.end(), dims.begin(), dims.end());
}
bool isHeads(const InputInfo &input) { return isOf(input, {}) || isOf(input, {"H"}); }
bool isBounded(Bounds range) { return std::isfinite(range.low) && std::isfinite(range.high); }
/// Of unbounded numbers those of a range, where it has both ends.
Tensor within(Bounds range, const Tensor &raw) {
  return isBounded(range) ? range.low + (range.high - range.low) * torch::sigmoid(raw) : raw;
}
bool isQueryNumber(const InputInfo &input) { return input.isFloat && isOf(input, {"B", "H", "T"}); }

std::string havingOf(const std::vector<std::string> &names) {
  return names.empty() ? "which has none but q, k and v" : "which has " + listed(names, "and");
}

/// Of head `at` of `count` its first value: the heads spread over what is typical, by equal factors where that has
/// several magnitudes.
double firstValue(Bounds typical, int64_t at, int64_t count) {
  const double share = (static_cast<double>(at) + 0.5) / static_cast<double>(count);
  if (typical.low > 0 && typical.high > 16 * typical.low)
    return typical.low * std::pow(typical.high / typical.low, share);
  return typical.low + (typical.high - typical.low) * share;
}

}  // namespace

bool readsAllTokens(const Variant &variant) {
  return std::any_of(variant.inputs().begin(), variant.inputs().end(), isQueryNumber);
}

VariantInputsImpl::VariantInputsImpl(const ModelConfig &config, int64_t layer) : config(config), layer(layer) {
  const auto variant = findVariant(config.attention);
  wave = variant->name().starts_with("span_periodic");
  const int64_t heads = config.heads;
  std::vector<std::string> names;
  int64_t rows = 0;
  for (const InputInfo &info : variant->inputs()) {
    if (info.name == "q" || info.name == "k" || info.name == "v") continue;
    names.push_back(info.name);
    Made made;
    made.info = info;
    made.source = sourceOf(info);
    // A dot would make it the name of a module's parameter.
    const std::string name = "input_" + info.name;
    switch (made.source) {
      case Source::Number:
      case Source::Value: makeNumber(made); break;
      case Source::Table: made.parameter = register_parameter(name, torch::zeros({heads, config.context})); break;
      case Source::Features: made.place = rows++; break;
      case Source::QueryNumber:
        made.range = info.values.bounds(sizesOf(config));
        if (!gates) gates = register_module("gates", torch::nn::Linear(hiddenWidth, heads * config.context));
        break;
    }
    inputs.push_back(std::move(made));
  }
  if (gates || rows > 0) hidden = register_module("hidden", torch::nn::Linear(config.width, hiddenWidth));
  if (rows > 0) features = register_module("features", torch::nn::Linear(hiddenWidth, rows * heads * config.features));
  for (const auto &[name, unused] : config.inputs)
    if (std::find(names.begin(), names.end(), name) == names.end())
      throw std::invalid_argument("model.inputs: expected inputs of variant '" + config.attention + "', " +
                                  havingOf(names) + ", got '" + name + "'");
}

VariantInputsImpl::Source VariantInputsImpl::sourceOf(const InputInfo &info) const {
  const bool tokens = info.dims.size() == 4 && info.dims[0] == "B" && info.dims[1] == "H" &&
                      (info.dims[2] == "T" || info.dims[2] == "S");
  if (info.isRow && tokens) return Source::Features;
  if (info.isFloat && isHeads(info)) return info.hasGradient ? Source::Number : Source::Value;
  if (info.isInt && isHeads(info)) return Source::Value;
  if (info.isFloat && info.dims.size() == 2 && info.dims[0] == "H" && info.dims[1] != "T" && info.dims[1] != "S")
    return Source::Table;
  if (isQueryNumber(info)) return Source::QueryNumber;
  throw std::invalid_argument("model.attention: variant '" + config.attention + "' has an input '" + info.name +
                              "' that the GPT does not make");
}

void VariantInputsImpl::makeNumber(Made &made) {
  const std::map<std::string, int64_t> sizes = sizesOf(config);
  const InputInfo &info = made.info;
  made.range = info.values.bounds(sizes);
  Bounds typical = info.values.typical(sizes).value_or(Bounds{0, 0});
  const auto set = config.inputs.find(info.name);
  const std::vector<double> own =  // of this layer
      set == config.inputs.end() || set->second.layers.empty() ? std::vector<double>()
                                                               : set->second.layers.at(static_cast<size_t>(layer));
  if (set != config.inputs.end() && own.empty()) {
    const Bounds given = set->second.range;
    if (made.source == Source::Value && given.low != given.high)
      throw std::invalid_argument("model.inputs." + info.name + ": expected one number, for nothing is learned of it");
    if (info.isInt && given.low != std::floor(given.low))
      throw std::invalid_argument("model.inputs." + info.name + ": expected an integer");
    typical = given;
    if (given.low != given.high) {
      made.range = given;
      typical.low = typical.high = (given.low + given.high) / 2;
    }
  }
  const int64_t count = info.dims.empty() ? 1 : config.heads;
  if (own.size() > static_cast<size_t>(count))
    throw std::invalid_argument("model.inputs." + info.name +
                                ": expected one value a layer, for it is no input by head");
  if (info.isInt && std::ranges::any_of(own, [](double value) { return value != std::floor(value); }))
    throw std::invalid_argument("model.inputs." + info.name + ": expected integers");
  Tensor first = torch::empty({count}, torch::kDouble);
  for (int64_t at = 0; at < count; ++at)
    first[at] = own.empty() ? firstValue(typical, at, count) : own[own.size() == 1 ? 0 : static_cast<size_t>(at)];
  if (info.dims.empty()) first = first.squeeze(0);
  if (made.source == Source::Value) {
    made.parameter =
        register_buffer("input_" + info.name, info.isInt ? first.floor().to(torch::kInt32) : first.to(torch::kFloat));
    return;
  }
  if (isBounded(made.range)) {
    const double width = std::max(made.range.high - made.range.low, 1e-30);
    first = torch::logit(((first - made.range.low) / width).clamp(edge, 1 - edge));
  }
  made.parameter = register_parameter("input_" + info.name, first.to(torch::kFloat));
}

Tensor VariantInputsImpl::numberOf(const Made &made) const {
  return made.source == Source::Number ? within(made.range, made.parameter) : made.parameter;
}

std::map<std::string, Tensor> VariantInputsImpl::learned() const {
  std::map<std::string, Tensor> values;
  for (const Made &made : inputs)
    if (made.source == Source::Number || made.source == Source::Table) values[made.info.name] = numberOf(made);
  return values;
}

std::map<std::string, Tensor> VariantInputsImpl::numbers() const {
  std::map<std::string, Tensor> values = learned();
  for (const Made &made : inputs)
    if (made.source == Source::Value) values[made.info.name] = numberOf(made);
  return values;
}

Bounds VariantInputsImpl::reachable(const std::string &name) const {
  for (const Made &made : inputs) {
    if (made.info.name != name || (made.source != Source::Number && made.source != Source::Value)) continue;
    const double margin =
        made.source == Source::Number && isBounded(made.range) ? edge * (made.range.high - made.range.low) : 0;
    return {made.range.low + margin, made.range.high - margin};
  }
  throw std::invalid_argument("'" + name + "' is no number of variant '" + config.attention + "'");
}

Tensor VariantInputsImpl::reachCost() const {
  const auto values = learned();
  Tensor reach;
  for (const Made &made : inputs)
    if (made.source == Source::Number && made.info.values.high == Bound{"T"}) {
      const Tensor &own = values.at(made.info.name);
      reach = reach.defined() ? reach + own : own;
    }
  if (!reach.defined()) return torch::zeros({}, hidden ? hidden->weight.options() : torch::TensorOptions());
  if (!wave) return reach.mean();
  // Of the positions within the reach, the share that the wave keeps.
  const Tensor period = values.at("period"), ratio = values.at("ratio"), amplitude = period / 4;
  const Tensor share = 1 / period + 2 * ratio + 0.5;
  const Tensor cost = torch::where(share < 1, share, 1 + (0.5 + period * ratio - amplitude));
  return ((reach + 32) * cost).mean();
}

void VariantInputsImpl::add(AttentionInputs &call, const Tensor &x) {
  const int64_t batch = x.size(0), length = x.size(1), heads = config.heads;
  Tensor made;
  for (const Made &input : inputs) {
    call.names.push_back(input.info.name);
    switch (input.source) {
      case Source::Number:
      case Source::Table:
      case Source::Value: call.tensors.push_back(numberOf(input)); break;
      case Source::QueryNumber: {
        const Tensor numbers = within(input.range, gates(torch::relu(hidden(x.mean(1)))));
        call.tensors.push_back(numbers.view({batch, heads, config.context}).slice(2, 0, length));
        break;
      }
      case Source::Features:
        if (!made.defined()) made = features(torch::relu(hidden(x))).view({batch, length, -1, heads, config.features});
        call.tensors.push_back(made.select(2, input.place).transpose(1, 2));
        break;
    }
  }
}

}  // namespace weft
