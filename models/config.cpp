#include "models/config.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include "models/json_keys.h"
#include "models/settings.h"
#include "models/spelling.h"

namespace weft {
namespace {

using nlohmann::json;

/// `value` for people, whatever bytes it holds.
std::string show(const json &value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

[[noreturn]] void refuse(const std::string &origin, const std::string &what) {
  throw std::invalid_argument(origin + ": " + what);
}

const Setting *findSetting(const std::string &name) {
  for (const Setting &setting : allSettings())
    if (name == setting.name) return &setting;
  return nullptr;
}

[[noreturn]] void refuseUnknown(const std::string &origin, const std::string &name, const std::string &meant) {
  refuse(origin, unknownName("setting", name, meant, "weft train --help-settings"));
}

json parseJson(const std::string &text, const std::string &origin) {
  KeysOnce keys;
  auto look = [&](int, json::parse_event_t event, json &parsed) {
    if (const auto key = keys.repeated(event, parsed)) refuse(origin, "the key '" + *key + "' is given twice");
    return true;
  };
  try {
    return json::parse(text, look);
  } catch (const json::exception &error) {
    refuse(origin, std::string("not JSON: ") + error.what());
  }
}

/// Values of a variant's inputs: any names, which the model checks.
const std::string inputSection = "model.inputs";

/// Every section and key is one of the table.
void checkNames(const json &data, const std::string &origin) {
  if (!data.is_object()) refuse(origin, "expected an object with \"model\" and \"train\"");
  for (auto &[section, values] : data.items()) {
    if (section != "model" && section != "train") {
      const std::string meant = nearestName(section, {"model", "train"});
      refuseUnknown(origin, section, meant.empty() ? nearestSetting(section) : meant);
    }
    if (!values.is_object()) refuse(origin, "expected an object at '" + section + "', got " + show(values));
    for (auto &[key, unused] : values.items())
      if (section + "." + key != inputSection && !findSetting(section + "." + key))
        refuseUnknown(origin, section + "." + key, nearestSetting(section + "." + key));
  }
}

/// Puts `key=value` into the object it belongs to.
void apply(json &data, const std::string &given) {
  const size_t equals = given.find('=');
  if (equals == std::string::npos) throw std::invalid_argument("expected key=value, got '" + given + "'");
  std::string name = given.substr(0, equals);
  const std::string value = given.substr(equals + 1);
  json parsed = json::parse(value, nullptr, false);
  if (name.starts_with("inputs.")) name = "model." + name;
  if (name.starts_with(inputSection + ".")) {
    if (parsed.is_discarded()) parsed = value;
    json &inputs = data["model"]["inputs"];
    if (!inputs.is_null() && !inputs.is_object()) return;  // refused where it is read
    inputs[name.substr(inputSection.size() + 1)] = parsed;
    return;
  }
  for (const char *section : {"model.", "train."})
    if (findSetting(section + name)) name = section + name;
  const Setting *setting = findSetting(name);
  if (!setting) refuseUnknown("--set " + given, name, nearestSetting(name));
  if (parsed.is_discarded() || (setting->isText() && !parsed.is_string())) parsed = value;
  data[setting->section()][setting->key()] = parsed;
}

void read(const json &value, const Setting &setting, int64_t &field, const std::string &origin) {
  if (!value.is_number_integer())
    refuse(origin, "expected an integer at " + std::string(setting.name) + ", got " + show(value));
  // Past 63 bits get<int64_t> would wrap; as a double such a value is outside of every range.
  if (!setting.range.holds(value.get<double>()))
    refuse(origin, "expected " + std::string(setting.name) + " " + setting.rangeText() + ", got " + show(value));
  field = value.get<int64_t>();
}

void read(const json &value, const Setting &setting, double &field, const std::string &origin) {
  if (!value.is_number()) refuse(origin, "expected a number at " + std::string(setting.name) + ", got " + show(value));
  field = value.get<double>();
  if (!setting.range.holds(field))
    refuse(origin, "expected " + std::string(setting.name) + " " + setting.rangeText() + ", got " + show(value));
}

void read(const json &value, const Setting &setting, std::string &field, const std::string &origin) {
  const std::vector<std::string> &choices = setting.choices;
  if (!value.is_string() || (!choices.empty() && std::ranges::count(choices, value.get<std::string>()) == 0))
    refuse(origin, "expected " + setting.type() + " at " + std::string(setting.name) + ", got " + show(value));
  field = value.get<std::string>();
  if (field.empty()) refuse(origin, "expected a text at " + std::string(setting.name) + ", got an empty one");
  try {
    static_cast<void>(value.dump());  // as a checkpoint will hold it
  } catch (const json::exception &) {
    refuse(origin, "expected a text in UTF-8 at " + std::string(setting.name) + ", got " + show(value));
  }
}

bool isFinite(const json &number) { return number.is_number() && std::isfinite(number.get<float>()); }

/// [[64], [128]], [[64, 32], [128, 16]]; empty where it is none of these.
std::vector<std::vector<double>> readLayers(const json &value) {
  auto isLayer = [](const json &heads) {
    return heads.is_array() && !heads.empty() && std::ranges::all_of(heads, isFinite);
  };
  if (!value.is_array() || value.empty() || !std::ranges::all_of(value, isLayer)) return {};
  return value.get<std::vector<std::vector<double>>>();
}

/// {"window": 128, "span": [0, 256], "share": [[0.5, 0.25], [0.75, 0.5]]}
std::map<std::string, GivenInput> readInputs(const json &values, const std::string &origin) {
  if (!values.is_object()) refuse(origin, "expected an object at '" + inputSection + "', got " + show(values));
  std::map<std::string, GivenInput> inputs;
  for (auto &[name, value] : values.items()) {
    if (auto layers = readLayers(value); !layers.empty()) {
      inputs[name].layers = std::move(layers);
      continue;
    }
    const bool range = value.is_array() && value.size() == 2 && isFinite(value[0]) && isFinite(value[1]) &&
                       value[0].get<double>() < value[1].get<double>();
    if (!range && !isFinite(value))
      refuse(origin, "expected a number, or the lower and the upper end of a range, at " + inputSection + "." + name +
                         ", got " + show(value) + " (of each layer: [[1], [2]], of each head: [[1, 2], [3, 4]])");
    const json &low = range ? value[0] : value, &high = range ? value[1] : value;
    inputs[name].range = {low.get<double>(), high.get<double>()};
  }
  return inputs;
}

/// What no setting says alone.
void checkTogether(const Config &c, const std::string &origin) {
  auto demand = [&](bool ok, const std::string &what) {
    if (!ok) refuse(origin, what);
  };
  auto text = [](double value) { return json(value).dump(); };
  demand(c.model.width % c.model.heads == 0,
         "expected heads to divide width, got heads = " + std::to_string(c.model.heads) +
             " and width = " + std::to_string(c.model.width));
  const int64_t headDim = c.model.width / c.model.heads;
  demand(headDim >= 16 && headDim <= 256,
         "expected a head dim (width / heads) from 16 to 256, got " + std::to_string(headDim));
  demand(c.model.positions != "rotary" || headDim % 2 == 0,
         "expected an even head dim (width / heads) for rotary positions, got " + std::to_string(headDim));
  for (const auto &[name, given] : c.model.inputs)
    for (const std::vector<double> &heads : given.layers)
      demand(static_cast<int64_t>(given.layers.size()) == c.model.layers &&
                 (heads.size() == 1 || static_cast<int64_t>(heads.size()) == c.model.heads),
             "expected at " + inputSection + "." + name + " an array of " + std::to_string(c.model.layers) +
                 " layers, each an array of one value or of " + std::to_string(c.model.heads) + " heads' values");
  demand(c.train.lrMin <= c.train.lr,
         "expected train.lr_min of at most train.lr, got " + text(c.train.lrMin) + " and " + text(c.train.lr));
}

}  // namespace

int64_t ModelConfig::innerWidth() const {
  if (inner > 0) return inner;
  // Of a multiple of 16, as products like it.
  return network == "swiglu" ? (8 * width + 47) / 48 * 16 : 4 * width;
}

Config parseConfig(const std::string &text, const std::string &origin, const std::vector<std::string> &settings) {
  json data = parseJson(text, origin);
  checkNames(data, origin);
  for (const std::string &given : settings) apply(data, given);
  Config config;
  for (const Setting &setting : allSettings())
    if (const std::string section = setting.section(), key = setting.key();
        data.contains(section) && data[section].contains(key))
      setting.visit(config, [&](auto &field) { read(data[section][key], setting, field, origin); });
  if (data.contains("model") && data["model"].contains("inputs"))
    config.model.inputs = readInputs(data["model"]["inputs"], origin);
  checkTogether(config, origin);
  return config;
}

std::string printConfig(const Config &config) {
  json data;
  Config copy = config;
  for (const Setting &setting : allSettings())
    setting.visit(copy, [&](const auto &field) { data[setting.section()][setting.key()] = field; });
  for (const auto &[name, given] : config.model.inputs) {
    const auto [low, high] = given.range;
    data["model"]["inputs"][name] = !given.layers.empty() ? json(given.layers)
                                    : low == high         ? json(low)
                                                          : json({low, high});
  }
  return data.dump(2);
}

}  // namespace weft
