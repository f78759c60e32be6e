#include "models/gpt.h"

#include "ops/attention.h"
#include "ops/variant_library.h"

namespace weft {

namespace nn = torch::nn;
using torch::Tensor;

AttentionImpl::AttentionImpl(const ModelConfig &config) : config(config) {
  const int64_t width = config.width;
  projection = register_module("projection", nn::Linear(nn::LinearOptions(width, 3 * width).bias(false)));
  output = register_module("output", nn::Linear(nn::LinearOptions(width, width).bias(false)));
  made = register_module("made", VariantInputs(config));
}

AttentionInputs AttentionImpl::inputs(const Tensor &x) {
  const int64_t batch = x.size(0), length = x.size(1), heads = config.heads;
  auto parts = projection(x).view({batch, length, 3, heads, config.width / heads}).unbind(2);
  AttentionInputs call{{"q", "k", "v"}, {}};
  for (const Tensor &part : parts) call.tensors.push_back(part.transpose(1, 2));
  made->add(call, x);
  return call;
}

Tensor AttentionImpl::forward(const Tensor &x, const Attend &attend) {
  const Tensor o = attend(inputs(x));
  return output(o.transpose(1, 2).reshape({x.size(0), x.size(1), config.width}));
}

BlockImpl::BlockImpl(const ModelConfig &config) {
  norm1 = register_module("norm1", nn::LayerNorm(nn::LayerNormOptions({config.width})));
  attention = register_module("attention", Attention(config));
  norm2 = register_module("norm2", nn::LayerNorm(nn::LayerNormOptions({config.width})));
  up = register_module("up", nn::Linear(config.width, 4 * config.width));
  down = register_module("down", nn::Linear(4 * config.width, config.width));
  dropout = register_module("dropout", nn::Dropout(config.dropout));
}

Tensor BlockImpl::forward(const Tensor &x, const Attend &attend) {
  const Tensor y = x + dropout(attention(norm1(x), attend));
  return y + dropout(down(torch::gelu(up(norm2(y)))));
}

GptImpl::GptImpl(const ModelConfig &config) : config(config), variant(lastingText(config.attention)) {
  embedding = register_parameter("embedding", torch::randn({256, config.width}) * 0.02);
  position = register_parameter("position", torch::randn({config.context, config.width}) * 0.02);
  for (int64_t at = 0; at < config.layers; ++at)
    blocks.push_back(register_module("block" + std::to_string(at), Block(config)));
  norm = register_module("norm", nn::LayerNorm(nn::LayerNormOptions({config.width})));
  dropout = register_module("dropout", nn::Dropout(config.dropout));
  torch::NoGradGuard guard;
  for (auto &parameter : named_parameters()) {
    const std::string &name = parameter.key();
    if (parameter.value().dim() != 2 || name == "embedding" || name == "position" ||
        name.find(".input_") != std::string::npos)
      continue;
    // Layers that end in the residual stream start smaller, as in GPT-2.
    const bool residual =
        name.find("output.weight") != std::string::npos || name.find("down.weight") != std::string::npos;
    parameter.value().normal_(0, residual ? 0.02 / std::sqrt(2.0 * config.layers) : 0.02);
  }
  for (auto &parameter : named_parameters()) {
    const std::string &name = parameter.key();
    if (name.ends_with(".bias")) parameter.value().zero_();
  }
}

Tensor GptImpl::embed(const Tensor &tokens, int64_t first) {
  const int64_t end = first + tokens.size(1);
  TORCH_CHECK(end <= config.context, "expected at most ", config.context, " tokens, got ", end);
  return dropout(torch::embedding(embedding, tokens) + position.slice(0, first, end));
}

Attend GptImpl::whole() const {
  return [this](const AttentionInputs &call) { return ops::attention(variant, call.names, call.tensors); };
}

Tensor GptImpl::forward(const Tensor &tokens) {
  return forward(tokens, 0, [attend = whole()](size_t, const AttentionInputs &call) { return attend(call); });
}

Tensor GptImpl::forward(const Tensor &tokens, int64_t first,
                        const std::function<Tensor(size_t, const AttentionInputs &)> &attend) {
  Tensor x = embed(tokens, first);
  for (size_t at = 0; at < blocks.size(); ++at) {
    if (at > 0) x = x + position.slice(0, first, first + tokens.size(1));
    x = blocks[at](x, [&](const AttentionInputs &call) { return attend(at, call); });
  }
  return torch::matmul(norm(x), embedding.t());
}

Tensor GptImpl::reachCost() const {
  Tensor sum = torch::zeros({}, embedding.options());
  for (const Block &block : blocks) sum = sum + block->attention->made->reachCost();
  return sum;
}

std::vector<AttentionInputs> GptImpl::attentionInputs(const Tensor &tokens) {
  torch::NoGradGuard guard;
  std::vector<AttentionInputs> all;
  Tensor x = embed(tokens);
  for (size_t at = 0; at < blocks.size(); ++at) {
    if (at > 0) x = x + position.slice(0, 0, tokens.size(1));
    all.push_back(blocks[at]->attention->inputs(blocks[at]->norm1(x)));
    x = blocks[at](x, whole());
  }
  return all;
}

std::string GptImpl::firstNonFinite(const Tensor &tokens) {
  torch::NoGradGuard guard;
  auto finite = [](const Tensor &x) { return torch::isfinite(x).all().item<bool>(); };
  for (auto &parameter : named_parameters())
    if (!finite(parameter.value())) return "parameter " + parameter.key();
  Tensor x = embed(tokens);
  if (!finite(x)) return "the embedding";
  for (size_t at = 0; at < blocks.size(); ++at) {
    if (at > 0) x = x + position.slice(0, 0, tokens.size(1));
    if (!finite(blocks[at]->attention(blocks[at]->norm1(x), whole())))
      return "the attention of layer " + std::to_string(at);
    x = blocks[at](x, whole());
    if (!finite(x)) return "the output of layer " + std::to_string(at);
  }
  return {};
}

int64_t GptImpl::parameterCount() const {
  int64_t count = 0;
  for (const Tensor &parameter : parameters()) count += parameter.numel();
  return count;
}

double GptImpl::flopsPerToken(double kept) const {
  const double width = static_cast<double>(config.width), layers = static_cast<double>(config.layers);
  const double products = 2 * layers * 12 * width * width + 2 * 256 * width;
  const double attention = layers * 4 * static_cast<double>(config.context) * width * kept;
  return 3 * products + 3.5 * attention;
}

}  // namespace weft
