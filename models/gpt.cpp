#include "models/gpt.h"

#include <stdexcept>

#include "ops/attention.h"
#include "ops/variant_library.h"

namespace weft {

namespace nn = torch::nn;
using torch::Tensor;

AttentionImpl::AttentionImpl(const ModelConfig &config) : config(config) {
  const int64_t heads = config.heads, width = config.width;
  projection = register_module("projection", nn::Linear(nn::LinearOptions(width, 3 * width).bias(false)));
  output = register_module("output", nn::Linear(nn::LinearOptions(width, width).bias(false)));
  auto variant = findVariant(config.attention);
  for (const InputInfo &input : variant->inputs()) {
    const std::string &name = input.name;
    if (name == "q" || name == "k" || name == "v") continue;
    extras.push_back(name);
    if (name == "span") {
      spanRaw = register_parameter("span", torch::zeros({heads}));
    } else if (name == "period") {
      // Periods start spread evenly over their range.
      const Tensor share = (torch::arange(heads, torch::kFloat) + 0.5) / heads;
      periodRaw = register_parameter("period", torch::logit(share));
    } else if (name == "ratio") {
      ratioRaw = register_parameter("ratio", torch::zeros({heads}));
    } else if (name == "bias" && input.dims.size() == 1) {
      headBias = register_parameter("bias", torch::full({heads}, 2.0));
    } else if (name == "u" || name == "w" || name == "keep") {
      if (!hidden) hidden = register_module("hidden", nn::Linear(width, 64));
      const int64_t size = name == "keep" ? heads * config.context : 2 * heads * config.features;
      if (!features) features = register_module("features", nn::Linear(64, size));
    } else if (name == "slope") {
      slope = register_parameter("slope", torch::pow(2.0, -8.0 * (torch::arange(heads, torch::kFloat) + 1) / heads));
    } else if (name == "c") {
      sink = register_parameter("sink", torch::zeros({heads}));
    } else if (name == "bias") {
      headBias = register_parameter("bias", torch::zeros({heads, config.context}));
    } else if (name != "window" && name != "tiles" && name != "stretches" && name != "share") {
      throw std::invalid_argument("model.attention: variant '" + config.attention + "' has an input '" + name +
                                  "' that the GPT does not make");
    }
  }
}

std::map<std::string, Tensor> AttentionImpl::learned() const {
  std::map<std::string, Tensor> values;
  if (spanRaw.defined()) values["span"] = config.maxSpan * torch::sigmoid(spanRaw);
  if (periodRaw.defined())
    values["period"] = config.periodMin + (config.periodMax - config.periodMin) * torch::sigmoid(periodRaw);
  if (ratioRaw.defined()) values["ratio"] = -0.25 + 0.5 * torch::sigmoid(ratioRaw);
  if (slope.defined()) values["slope"] = slope;
  if (sink.defined()) values["c"] = sink;
  if (headBias.defined()) values["bias"] = headBias;
  return values;
}

Tensor AttentionImpl::spanCost() const {
  if (!spanRaw.defined()) return torch::zeros({}, projection->weight.options());
  auto values = learned();
  const Tensor span = values["span"];
  if (!periodRaw.defined()) return span.mean();
  const Tensor period = values["period"], ratio = values["ratio"], amplitude = period / 4;
  const Tensor share = 1 / period + 2 * ratio + 0.5;
  const Tensor cost = torch::where(share < 1, share, 1 + (0.5 + period * ratio - amplitude));
  return ((span + 32) * cost).mean();
}

AttentionInputs AttentionImpl::inputs(const Tensor &x) {
  const int64_t batch = x.size(0), length = x.size(1), heads = config.heads;
  auto parts = projection(x).view({batch, length, 3, heads, config.width / heads}).unbind(2);
  AttentionInputs call{{"q", "k", "v"}, {}};
  for (const Tensor &part : parts) call.tensors.push_back(part.transpose(1, 2));
  auto values = learned();
  Tensor made;
  for (const std::string &name : extras) {
    call.names.push_back(name);
    if (auto found = values.find(name); found != values.end()) {
      call.tensors.push_back(found->second);
    } else if (name == "window") {
      call.tensors.push_back(torch::tensor(config.window, torch::TensorOptions(torch::kInt32).device(x.device())));
    } else if (name == "tiles" || name == "stretches") {
      call.tensors.push_back(
          torch::full({heads}, config.tiles, torch::TensorOptions(torch::kInt32).device(x.device())));
    } else if (name == "share") {
      call.tensors.push_back(
          torch::full({heads}, config.share, torch::TensorOptions(torch::kFloat).device(x.device())));
    } else if (name == "keep") {
      const Tensor gates = torch::sigmoid(features(torch::relu(hidden(x.mean(1)))));
      call.tensors.push_back(gates.view({batch, heads, config.context}).slice(2, 0, length));
    } else {
      if (!made.defined()) made = features(torch::relu(hidden(x))).view({batch, length, 2, heads, config.features});
      call.tensors.push_back(made.select(2, name == "u" ? 0 : 1).transpose(1, 2));
    }
  }
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
        name.find("attention.bias") != std::string::npos)
      continue;
    // Layers that end in the residual stream start smaller, as in GPT-2.
    const bool residual =
        name.find("output.weight") != std::string::npos || name.find("down.weight") != std::string::npos;
    parameter.value().normal_(0, residual ? 0.02 / std::sqrt(2.0 * config.layers) : 0.02);
  }
  for (auto &parameter : named_parameters()) {
    const std::string &name = parameter.key();
    const std::string end = ".bias";
    if (name.size() > end.size() && name.substr(name.size() - end.size()) == end &&
        name.find("attention.bias") == std::string::npos)
      parameter.value().zero_();
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

Tensor GptImpl::spanCost() const {
  Tensor sum = torch::zeros({}, embedding.options());
  for (const Block &block : blocks) sum = sum + block->attention->spanCost();
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
