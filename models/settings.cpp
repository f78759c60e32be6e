#include "models/settings.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "models/spelling.h"

namespace weft {

using nlohmann::json;

constexpr double endless = std::numeric_limits<double>::infinity();

const std::vector<Setting> &allSettings() {
  using M = ModelConfig;
  using T = TrainConfig;
  // Counts of steps and the seed are held to 10^12 so that their products stay integers of 64 bits.
  static const std::vector<Setting> settings = {
      {"model.layers", &M::layers, {1, 1000}, "blocks of attention and a network"},
      {"model.heads", &M::heads, {1, 1024}, "heads of attention; a head has width / heads features, 16 to 256"},
      {"model.width", &M::width, {16, 262144}, "features of a token"},
      {"model.context", &M::context, {2, 1048576}, "bytes that the model sees at once"},
      {"model.dropout", &M::dropout, {0, 1, false, true}, "share of features dropped in training"},
      {"model.attention", &M::attention, {}, "a variant of the library, or the path of a .weft file"},
      {"model.features", &M::features, {1, 256}, "features by which content-based variants compare tokens"},
      {"model.positions", &M::positions, {}, "how a token's place is told", {"learned", "rotary", "none"}},
      {"model.norm", &M::norm, {}, "normalisation before attention, network and output", {"layer", "rms"}},
      {"model.network", &M::network, {}, "the network of a block", {"gelu", "relu2", "swiglu"}},
      {"model.inner", &M::inner, {0, 1048576}, "features inside of the network; 0: 4 width, for swiglu 8/3 width"},
      {"model.output", &M::output, {}, "the output layer: the embedding's weights or its own", {"tied", "own"}},
      {"model.qk_norm", &M::qkNorm, {}, "normalisation of each head's queries and keys", {"none", "rms"}},
      {"train.steps", &T::steps, {1, 1e12}, "steps of the whole run"},
      {"train.batch", &T::batch, {1, 1e6}, "texts of `context` bytes taken at once"},
      {"train.accumulate", &T::accumulate, {1, 1e6}, "batches of a step"},
      {"train.warmup", &T::warmup, {0, 1e12}, "steps in which the learning rate rises to lr"},
      {"train.lr", &T::lr, {0, endless, true}, "learning rate after the warm-up"},
      {"train.lr_min",
       &T::lrMin,
       {0, endless},
       "learning rate at the end; at most lr. muon_lr falls by the same factor"},
      {"train.beta1", &T::beta1, {0, 1, false, true}, "decay of Adam's mean of gradients"},
      {"train.beta2", &T::beta2, {0, 1, false, true}, "decay of Adam's mean of squared gradients"},
      {"train.weight_decay", &T::weightDecay, {0, endless}, "decay of matrices, times the learning rate"},
      {"train.clip", &T::clip, {0, endless}, "greatest norm of the gradient; 0: not clipped"},
      {"train.span_reg", &T::spanReg, {0, endless}, "weight of the spans in the loss"},
      {"train.seed", &T::seed, {0, 1e12}, "of weights, batches and dropout"},
      {"train.log_every", &T::logEvery, {1, 1e12}, "steps from one entry of metrics.jsonl to the next"},
      {"train.save_every", &T::saveEvery, {1, 1e12}, "steps from one checkpoint to the next"},
      {"train.optimizer", &T::optimizer, {}, "muon: matrices of blocks by Muon, the rest by AdamW", {"adamw", "muon"}},
      {"train.muon_lr", &T::muonLr, {0, endless, true}, "learning rate of Muon's matrices, in place of lr"},
      {"train.momentum", &T::momentum, {0, 1, false, true}, "decay of Muon's mean of gradients"},
      {"train.schedule", &T::schedule, {}, "how the learning rate falls", {"cosine", "linear"}},
      {"train.cooldown", &T::cooldown, {0, 1}, "share of the steps, the last ones, in which a linear schedule falls"},
      {"train.precision",
       &T::precision,
       {},
       "of products; auto: bf16 where that is fast",
       {"auto", "f32", "bf16", "f16"}},
      {"train.recompute", &T::recompute, {}, "blocks: keep their inputs alone, compute them again", {"none", "blocks"}},
      {"train.context_parallel",
       &T::contextParallel,
       {1, 1e6},
       "processes that share each text; a divisor of them all"},
      {"train.validate_every", &T::validateEvery, {0, 1e12}, "steps from one validation to the next; 0: none"},
      {"train.validate_bytes", &T::validateBytes, {1, 1e12}, "first bytes of the validation split that are predicted"},
      {"train.save_minutes",
       &T::saveMinutes,
       {0, endless},
       "minutes to the next checkpoint at most; 0: by steps alone"},
      {"train.keep", &T::keep, {1, 10000}, "newest checkpoints that are kept"},
  };
  return settings;
}

bool Range::holds(double value) const {
  return std::isfinite(value) && (above ? value > least : value >= least) && (below ? value < most : value <= most);
}

std::string Setting::section() const { return std::string(name).substr(0, std::string_view(name).find('.')); }
std::string Setting::key() const { return std::string(name).substr(std::string_view(name).find('.') + 1); }

bool Setting::isText() const {
  return std::holds_alternative<std::string ModelConfig::*>(place) ||
         std::holds_alternative<std::string TrainConfig::*>(place);
}

std::string Setting::type() const {
  const bool integer =
      std::holds_alternative<int64_t ModelConfig::*>(place) || std::holds_alternative<int64_t TrainConfig::*>(place);
  if (choices.empty()) return isText() ? "a text" : integer ? "an integer" : "a number";
  std::string text = choices.front();
  for (size_t at = 1; at < choices.size(); ++at) text += (at + 1 < choices.size() ? ", " : " or ") + choices[at];
  return text;
}

std::string Setting::rangeText() const {
  if (isText()) return {};
  // As JSON would have it: the same in every locale.
  auto text = [](double bound) {
    return bound == std::floor(bound) ? json(static_cast<int64_t>(bound)).dump() : json(bound).dump();
  };
  if (range.most == endless) return (range.above ? "above " : "from ") + text(range.least) + (range.above ? "" : " on");
  return range.above ? "above " + text(range.least) + (range.below ? ", below " : ", at most ") + text(range.most)
                     : "from " + text(range.least) + (range.below ? " to below " : " to ") + text(range.most);
}

std::string nearestSetting(const std::string &text) {
  std::vector<std::string> names, keys;
  for (const Setting &setting : allSettings()) {
    names.push_back(setting.name);
    keys.push_back(setting.key());
  }
  const size_t dot = text.find('.');
  const std::string key = nearestName(dot == std::string::npos ? text : text.substr(dot + 1), keys);
  if (key.empty()) return nearestName(text, names);
  return names[static_cast<size_t>(std::find(keys.begin(), keys.end(), key) - keys.begin())];
}

}  // namespace weft
