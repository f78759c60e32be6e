#include "models/decoder.h"

#include <algorithm>
#include <stdexcept>

#include <torch/utils.h>

#include "ops/attention.h"
#include "ops/decode.h"
#include "ops/variant_library.h"

namespace weft {

using torch::Tensor;

bool Decoder::supports(const Gpt &model) { return !readsAllTokens(*findVariant(model->config.attention)); }

Decoder::Decoder(Gpt &own) : model(own), layers(own->blocks.size()), reaches(own->blocks.size()) {
  if (!supports(model))
    throw std::invalid_argument("'" + model->config.attention +
                                "' looks at the whole sequence: it cannot go token by token");
}

void Decoder::reset() {
  done = 0;
  for (auto &layer : layers) layer.clear();
  std::fill(reaches.begin(), reaches.end(), 0);
}

int64_t Decoder::cacheBytes() const {
  int64_t bytes = 0;
  for (const auto &layer : layers)
    for (const auto &[name, rows] : layer) bytes += static_cast<int64_t>(rows.memory.nbytes());
  return bytes;
}

/// How many of the newest keys a query of the layer can see in a text as long as the context: older ones may be
/// forgotten. Only the plan of kept tiles is computed, which reads no rows.
int64_t Decoder::reachOf(size_t layer, const AttentionInputs &call) {
  int64_t &reach = reaches[layer];
  if (reach > 0) return reach;
  const auto variant = findVariant(model->config.attention);
  AttentionInputs whole = call;
  for (const InputInfo &input : variant->inputs())
    for (size_t at = 0; at < call.names.size(); ++at)
      if (call.names[at] == input.name && input.isRow) {
        std::vector<int64_t> sizes = call.tensors[at].sizes().vec();
        sizes[2] = model->config.context;
        whole.tensors[at] = call.tensors[at].slice(2, 0, 1).expand(sizes);
      }
  const int64_t seen = ops::keptTiles(model->config.attention, whole.names, whole.tensors).reach;
  return reach = std::clamp<int64_t>(seen, 1, model->config.context);
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
      model->forward(tokens.unsqueeze(0).to(model->device()), {{done, n}},
                     [&](size_t layer, const AttentionInputs &call) {
                       AttentionInputs whole = call;
                       const int64_t reach = reachOf(layer, call);
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
