#include "models/config.h"

#include <functional>
#include <map>
#include <stdexcept>

#include <nlohmann/json.hpp>

namespace weft {
namespace {

using nlohmann::json;

/// Calls visit(section, key, field) for every setting: the one list of them.
template <class Visit>
void fields(Config &c, Visit visit) {
  ModelConfig &m = c.model;
  TrainConfig &t = c.train;
  visit("model", "layers", m.layers);
  visit("model", "heads", m.heads);
  visit("model", "width", m.width);
  visit("model", "context", m.context);
  visit("model", "dropout", m.dropout);
  visit("model", "attention", m.attention);
  visit("model", "max_span", m.maxSpan);
  visit("model", "period_min", m.periodMin);
  visit("model", "period_max", m.periodMax);
  visit("model", "features", m.features);
  visit("model", "window", m.window);
  visit("model", "tiles", m.tiles);
  visit("model", "share", m.share);
  visit("train", "steps", t.steps);
  visit("train", "batch", t.batch);
  visit("train", "accumulate", t.accumulate);
  visit("train", "warmup", t.warmup);
  visit("train", "lr", t.lr);
  visit("train", "lr_min", t.lrMin);
  visit("train", "beta1", t.beta1);
  visit("train", "beta2", t.beta2);
  visit("train", "weight_decay", t.weightDecay);
  visit("train", "clip", t.clip);
  visit("train", "span_reg", t.spanReg);
  visit("train", "seed", t.seed);
  visit("train", "log_every", t.logEvery);
  visit("train", "save_every", t.saveEvery);
}

void validate(const Config &c, const std::string &origin) {
  auto demand = [&](bool ok, const std::string &what) {
    if (!ok) throw std::invalid_argument(origin + ": " + what);
  };
  demand(c.model.layers >= 1 && c.model.heads >= 1 && c.model.context >= 2, "expected layers and heads of at least 1 and a context of at least 2");
  demand(c.model.width % c.model.heads == 0, "expected heads to divide width, got heads = " + std::to_string(c.model.heads) + " and width = " + std::to_string(c.model.width));
  const int64_t headDim = c.model.width / c.model.heads;
  demand(headDim >= 16 && headDim <= 256, "expected a head dim (width / heads) from 16 to 256, got " + std::to_string(headDim));
  demand(c.model.dropout >= 0 && c.model.dropout < 1, "expected model.dropout in [0, 1)");
  demand(c.train.steps >= 1 && c.train.batch >= 1 && c.train.accumulate >= 1, "expected train.steps, batch and accumulate of at least 1");
  demand(c.train.lr > 0 && c.train.lrMin >= 0, "expected positive learning rates");
}

}  // namespace

Config parseConfig(const std::string &text, const std::string &origin, const std::vector<std::string> &settings) {
  json data;
  try {
    data = json::parse(text);
  } catch (const json::exception &error) {
    throw std::invalid_argument(origin + ": not JSON: " + error.what());
  }
  std::map<std::string, bool> known;
  Config probe;
  fields(probe, [&](const char *section, const char *key, auto &) { known[std::string(section) + "." + key] = true; });
  auto unknown = [&](const std::string &key) {
    std::string list;
    for (auto &[name, unused] : known) list += " " + name;
    throw std::invalid_argument(origin + ": unknown setting '" + key + "'; settings are:" + list);
  };
  for (const std::string &setting : settings) {
    const size_t equals = setting.find('=');
    if (equals == std::string::npos) throw std::invalid_argument("expected key=value, got '" + setting + "'");
    std::string key = setting.substr(0, equals);
    const std::string value = setting.substr(equals + 1);
    for (const char *section : {"model.", "train."})
      if (known.count(section + key)) key = section + key;
    if (!known.count(key)) unknown(key);
    json parsed = json::parse(value, nullptr, false);
    if (parsed.is_discarded()) parsed = value;
    data[key.substr(0, 5)][key.substr(6)] = parsed;
  }
  if (!data.is_object()) throw std::invalid_argument(origin + ": expected an object with \"model\" and \"train\"");
  for (auto &[section, values] : data.items()) {
    if (section != "model" && section != "train") unknown(section);
    if (!values.is_object()) throw std::invalid_argument(origin + ": expected an object at '" + section + "'");
    for (auto &[key, unused] : values.items())
      if (!known.count(section + "." + key)) unknown(section + "." + key);
  }
  Config config;
  fields(config, [&](const char *section, const char *key, auto &field) {
    if (!data.contains(section) || !data[section].contains(key)) return;
    const json &value = data[section][key];
    using Field = std::decay_t<decltype(field)>;
    bool fits;
    if constexpr (std::is_same_v<Field, std::string>)
      fits = value.is_string();
    else if constexpr (std::is_same_v<Field, int64_t>)
      fits = value.is_number_integer();
    else
      fits = value.is_number();
    if (!fits) throw std::invalid_argument(origin + ": expected " + (std::is_same_v<Field, std::string> ? "a text" : std::is_same_v<Field, int64_t> ? "an integer" : "a number") + " at " + section + "." + key + ", got " + value.dump());
    field = value.get<Field>();
  });
  validate(config, origin);
  return config;
}

std::string printConfig(const Config &config) {
  json data;
  Config copy = config;
  fields(copy, [&](const char *section, const char *key, auto &field) { data[section][key] = field; });
  return data.dump(2);
}

}  // namespace weft
