#include "models/decoder.h"

#include <cmath>
#include <stdexcept>

#include "ops/attention.h"
#include "ops/decode.h"
#include "ops/variant_library.h"

namespace weft {

using torch::Tensor;

/// Beyond this many tokens past a span its soft edge has weight 0 (const soft of the variants).
constexpr int64_t softEdge = 32;

bool Decoder::supports(const Gpt &model) {
  // row_gate's network reads the mean of all tokens.
  for (const InputInfo &input : findVariant(model->config.attention)->inputs())
    if (input.name == "keep") return false;
  return true;
}

Decoder::Decoder(Gpt &own) : model(own), layers(own->blocks.size()) {
  if (!supports(model))
    throw std::invalid_argument("'" + model->config.attention +
                                "' looks at the whole sequence: it cannot go token by token");
}

void Decoder::reset() {
  done = 0;
  for (auto &layer : layers) layer.clear();
}

int64_t Decoder::cacheBytes() const {
  int64_t bytes = 0;
  for (const auto &layer : layers)
    for (const auto &[name, rows] : layer) bytes += static_cast<int64_t>(rows.memory.nbytes());
  return bytes;
}

/// How many of the newest keys a query of the layer can see: all, or as far as its longest span. Masks of spans and
/// windows are of i - j alone, so keys before that may be forgotten.
int64_t Decoder::reachOf(size_t layer) const {
  const ModelConfig &config = model->config;
  int64_t reach = config.context;
  const auto learned = model->blocks[layer]->attention->learned();
  if (auto span = learned.find("span"); span != learned.end())
    reach = static_cast<int64_t>(std::ceil(span->second.max().item<double>())) + softEdge;
  if (config.attention == "sliding_window") reach = config.window;
  return std::min(std::max<int64_t>(reach, 1), config.context);
}

/// Adds rows [1, heads, n, width]; gives the newest `reach` of all. Memory holds twice the reach at most: when it is
/// full, the newest rows move to its front.
Tensor Decoder::keep(Rows &rows, const Tensor &added, int64_t reach) {
  const int64_t n = added.size(2), capacity = std::max(n, std::min(2 * reach, model->config.context));
  if (!rows.memory.defined() || rows.memory.size(2) < capacity) {
    Tensor grown = torch::empty({added.size(0), added.size(1), capacity, added.size(3)}, added.options());
    if (rows.count > 0) grown.slice(2, 0, rows.count).copy_(rows.memory.slice(2, 0, rows.count));
    rows.memory = grown;
  }
  if (rows.count + n > rows.memory.size(2)) {
    const int64_t kept = std::min(rows.count, reach - 1);
    rows.memory.slice(2, 0, kept).copy_(rows.memory.slice(2, rows.count - kept, rows.count).clone());
    rows.count = kept;
  }
  rows.memory.slice(2, rows.count, rows.count + n).copy_(added);
  rows.count += n;
  return rows.memory.slice(2, std::max<int64_t>(0, rows.count - reach), rows.count);
}

Tensor Decoder::advance(const Tensor &tokens) {
  const int64_t n = tokens.size(0);
  if (n > 1 && done > 0)
    throw std::invalid_argument("expected one token at a time after the first ones, got " + std::to_string(n));
  torch::NoGradGuard guard;
  const auto variant = findVariant(model->config.attention);
  const Tensor logits =
      model->forward(tokens.unsqueeze(0).to(model->device()), done, [&](size_t layer, const AttentionInputs &call) {
        AttentionInputs whole = call;
        const int64_t reach = reachOf(layer);
        for (const InputInfo &input : variant->inputs())
          for (size_t at = 0; at < call.names.size(); ++at)
            if (call.names[at] == input.name && input.isRow && (!input.querySide || input.isPooled)) {
              // What a selection pools is cached too: the tile before the newest token chooses.
              const Tensor newest = keep(layers[layer][input.name], call.tensors[at], reach);
              if (n == 1) whole.tensors[at] = newest;
            }
        // The first tokens see one another; a later one sees the cache.
        return n > 1 ? ops::attention(model->config.attention, call.names, call.tensors)
                     : ops::decode(model->config.attention, whole.names, whole.tensors);
      });
  done += n;
  return logits[0];
}

}  // namespace weft
