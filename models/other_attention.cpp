#include "models/other_attention.h"

#include <stdexcept>

#include <torch/utils.h>

#include "ops/variant_library.h"

namespace weft {

using torch::Tensor;

namespace {

std::string printed(const ModelConfig &config) { return printConfig({config, {}}); }

bool same(const GivenInput &one, const GivenInput &other) {
  return one.layers == other.layers && one.range.low == other.range.low && one.range.high == other.range.high;
}

/// Throws where `changed` differs from `config` and the default training by more than its attention.
void demandSameBeside(const ModelConfig &config, Config changed, const std::string &origin) {
  changed.model.attention = config.attention;
  changed.model.inputs = config.inputs;
  if (printConfig(changed) != printed(config))
    throw std::invalid_argument(origin +
                                ": expected the model of the checkpoint; only model.attention and model.inputs can be "
                                "others than it was trained with");
}

}  // namespace

ModelConfig withOtherAttention(const ModelConfig &config, const std::string &text, const std::string &origin,
                               const std::vector<std::string> &settings) {
  ModelConfig result = config;
  if (!text.empty()) {
    const ModelConfig given = parseConfig(text, origin).model;
    demandSameBeside(config, {given, {}}, origin);
    result.attention = given.attention;
    result.inputs = given.inputs;
  }
  if (settings.empty()) return result;
  ModelConfig without = result;
  without.inputs.clear();
  Config changed = parseConfig(printed(without), "--set", settings);
  if (changed.model.attention == result.attention) changed = parseConfig(printed(result), "--set", settings);
  demandSameBeside(config, changed, "--set");
  return changed.model;
}

Gpt withWeightsOf(const Gpt &model, const ModelConfig &config) {
  if (printed(config) == printed(model->config)) return model;
  torch::NoGradGuard guard;
  Gpt other(config);
  other->to(model->device());
  const bool sameAttention = lastingText(config.attention) == lastingText(model->config.attention);
  auto differs = [&](const std::string &input) {
    const auto before = model->config.inputs.find(input), now = config.inputs.find(input);
    if (before == model->config.inputs.end() || now == config.inputs.end()) return now != config.inputs.end();
    return !same(before->second, now->second);
  };
  auto copy = [&](const auto &from, const auto &to) {
    for (const auto &tensor : to) {
      const std::string name = tensor.key(), marker = ".made.";
      const size_t own = name.find(marker);
      if (own != std::string::npos) {
        const std::string inner = name.substr(own + marker.size());
        const bool isInput = inner.starts_with("input_");
        if (!sameAttention && !isInput)
          throw std::invalid_argument("variant '" + config.attention +
                                      "' has a network of its own, which this model was not trained with: train one "
                                      "with model.attention=" +
                                      config.attention);
        if (!sameAttention || (isInput && differs(inner.substr(6)))) continue;
      }
      tensor.value().copy_(from[name]);
    }
  };
  copy(model->named_parameters(), other->named_parameters());
  copy(model->named_buffers(), other->named_buffers());
  return other;
}

}  // namespace weft
