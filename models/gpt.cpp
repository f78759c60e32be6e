#include "models/gpt.h"

#include <cmath>

#include <torch/utils.h>

#include "models/recompute.h"
#include "ops/attention.h"
#include "ops/variant_library.h"

namespace weft {

namespace nn = torch::nn;
using torch::Tensor;

AttentionImpl::AttentionImpl(const ModelConfig &config, int64_t layer) : config(config) {
  const int64_t width = config.width;
  projection = register_module("projection", nn::Linear(nn::LinearOptions(width, 3 * width).bias(false)));
  output = register_module("output", nn::Linear(nn::LinearOptions(width, width).bias(false)));
  made = register_module("made", VariantInputs(config, layer));
}

AttentionInputs AttentionImpl::inputs(const Tensor &x, const Rotation &rotation) {
  const int64_t batch = x.size(0), length = x.size(1), heads = config.heads;
  // Parted as gradients are put together again: once, without zeros for what a part lacks.
  const std::vector<Tensor> parts =
      projection(x).view({batch, length, 3, heads, config.width / heads}).split_with_sizes({2, 1}, 2);
  const auto [queries, keys] = rotation.apply(config.qkNorm == "rms" ? unitRms(parts[0]) : parts[0]);
  AttentionInputs call{{"q", "k", "v"}, {}};
  for (const Tensor &part : {queries, keys, parts[1].squeeze(2)}) call.tensors.push_back(part.transpose(1, 2));
  made->add(call, x);
  return call;
}

Tensor AttentionImpl::forward(const Tensor &x, const Rotation &rotation, const Attend &attend) {
  const Tensor o = attend(inputs(x, rotation));
  return output(o.transpose(1, 2).reshape({x.size(0), x.size(1), config.width}));
}

BlockImpl::BlockImpl(const ModelConfig &config, int64_t layer) : network(config.network) {
  const int64_t inner = config.innerWidth(), gates = network == "swiglu" ? 2 : 1;
  const bool biases = network == "gelu";
  norm1 = register_module("norm1", Norm(config.norm, config.width));
  attention = register_module("attention", Attention(config, layer));
  norm2 = register_module("norm2", Norm(config.norm, config.width));
  up = register_module("up", nn::Linear(nn::LinearOptions(config.width, gates * inner).bias(biases)));
  down = register_module("down", nn::Linear(nn::LinearOptions(inner, config.width).bias(biases)));
  dropout = register_module("dropout", nn::Dropout(config.dropout));
}

Tensor BlockImpl::forward(const Tensor &x, const Rotation &rotation, const Attend &attend) {
  const Tensor y = x + dropout(attention(norm1(x), rotation, attend));
  return y + dropout(down(activate(network, up(norm2(y)))));
}

GptImpl::GptImpl(const ModelConfig &config) : config(config), variant(lastingText(config.attention)) {
  embedding = register_parameter("embedding", torch::randn({256, config.width}) * 0.02);
  if (config.positions == "learned")
    position = register_parameter("position", torch::randn({config.context, config.width}) * 0.02);
  if (config.positions == "rotary")
    rotation = Rotation::ofPositions(config.context, config.heads, config.width / config.heads);
  for (int64_t at = 0; at < config.layers; ++at)
    blocks.push_back(register_module("block" + std::to_string(at), Block(config, at)));
  norm = register_module("norm", Norm(config.norm, config.width));
  dropout = register_module("dropout", nn::Dropout(config.dropout));
  if (config.output == "own")
    output = register_module("output", nn::Linear(nn::LinearOptions(config.width, 256).bias(false)));
  initialize();
}

void GptImpl::initialize() {
  torch::NoGradGuard guard;
  for (auto &parameter : named_parameters()) {
    const std::string &name = parameter.key();
    if (parameter.value().dim() != 2 || name == "embedding" || name == "position" ||
        name.find(".input_") != std::string::npos)
      continue;
    // Layers that end in the residual stream start smaller, as in GPT-2.
    const bool residual = name.ends_with(".attention.output.weight") || name.ends_with(".down.weight");
    parameter.value().normal_(0, residual ? 0.02 / std::sqrt(2.0 * config.layers) : 0.02);
  }
  for (auto &parameter : named_parameters()) {
    const std::string &name = parameter.key();
    if (name.ends_with(".bias")) parameter.value().zero_();
  }
}

static Places wholeOf(const Tensor &tokens) { return {{0, tokens.size(1)}}; }

Tensor GptImpl::embed(const Tensor &tokens, const Places &places) {
  const int64_t end = places.back().first + places.back().count;
  TORCH_CHECK(end <= config.context, "expected at most ", config.context, " tokens, got ", end);
  const Tensor x = torch::embedding(embedding, tokens);
  return dropout(position.defined() ? x + at(places, position) : x);
}

Tensor GptImpl::enter(size_t number, const Tensor &x, const Places &places) const {
  return number > 0 && position.defined() ? x + at(places, position) : x;
}

Rotation GptImpl::rotationOf(const Tensor &x, const Places &places) {
  // Made once of the model's device: no parameter, so no checkpoint holds it.
  if (rotation.turns.defined() && rotation.turns.device() != x.device()) rotation.turns = rotation.turns.to(x.device());
  return rotation.at(places);
}

Attend GptImpl::whole() const {
  return [this](const AttentionInputs &call) { return ops::attention(variant, call.names, call.tensors); };
}

Tensor GptImpl::forward(const Tensor &tokens) {
  if (share && is_training())
    return forward(tokens, share->places(tokens.size(1) * share->size),
                   [this](size_t, const AttentionInputs &call) { return share->attend(variant, call); });
  return forward(tokens, wholeOf(tokens),
                 [attend = whole()](size_t, const AttentionInputs &call) { return attend(call); });
}

Tensor GptImpl::forward(const Tensor &tokens, const Places &places,
                        const std::function<Tensor(size_t, const AttentionInputs &)> &attend) {
  Tensor x = embed(tokens, places);
  const Rotation turned = rotationOf(x, places);
  for (size_t at = 0; at < blocks.size(); ++at) {
    auto block = [own = blocks[at], at, turned, attend](const Tensor &x) mutable {
      return own(x, turned, [&](const AttentionInputs &call) { return attend(at, call); });
    };
    x = enter(at, x, places);
    x = recompute && is_training() ? recomputed(block, x) : block(x);
  }
  return output ? output(norm(x)) : torch::linear(norm(x), embedding);
}

Tensor GptImpl::reachCost() const {
  Tensor sum = torch::zeros({}, embedding.options());
  for (const Block &block : blocks) sum = sum + block->attention->made->reachCost();
  return sum;
}

std::vector<AttentionInputs> GptImpl::attentionInputs(const Tensor &tokens) {
  torch::NoGradGuard guard;
  std::vector<AttentionInputs> all;
  const Places places = wholeOf(tokens);
  Tensor x = embed(tokens, places);
  const Rotation turned = rotationOf(x, places);
  for (size_t at = 0; at < blocks.size(); ++at) {
    x = enter(at, x, places);
    all.push_back(blocks[at]->attention->inputs(blocks[at]->norm1(x), turned));
    x = blocks[at](x, turned, whole());
  }
  return all;
}

std::string GptImpl::firstNonFinite(const Tensor &tokens) {
  torch::NoGradGuard guard;
  auto finite = [](const Tensor &x) { return torch::isfinite(x).all().item<bool>(); };
  for (auto &parameter : named_parameters())
    if (!finite(parameter.value())) return "parameter " + parameter.key();
  const Places places = wholeOf(tokens);
  Tensor x = embed(tokens, places);
  if (!finite(x)) return "the embedding";
  const Rotation turned = rotationOf(x, places);
  for (size_t at = 0; at < blocks.size(); ++at) {
    x = enter(at, x, places);
    if (!finite(blocks[at]->attention(blocks[at]->norm1(x), turned, whole())))
      return "the attention of layer " + std::to_string(at);
    x = blocks[at](x, turned, whole());
    if (!finite(x)) return "the output of layer " + std::to_string(at);
  }
  return {};
}

bool GptImpl::isMatrix(const std::string &name, const Tensor &parameter) {
  return parameter.dim() >= 2 && name.find(".weight") != std::string::npos;
}

int64_t GptImpl::matricesIn(const std::string &name, const ModelConfig &config) {
  if (name.ends_with(".projection.weight")) return 3;
  return name.ends_with(".up.weight") && config.network == "swiglu" ? 2 : 1;
}

int64_t GptImpl::parameterCount() const {
  int64_t count = 0;
  for (const Tensor &parameter : parameters()) count += parameter.numel();
  return count;
}

double GptImpl::flopsPerToken(double kept) const {
  const double width = static_cast<double>(config.width), layers = static_cast<double>(config.layers);
  const double network = (config.network == "swiglu" ? 3 : 2) * static_cast<double>(config.innerWidth());
  const double products = 2 * layers * width * (4 * width + network) + 2 * 256 * width;
  const double attention = layers * 4 * static_cast<double>(config.context) * width * kept;
  return 3 * products + 3.5 * attention;
}

}  // namespace weft
