#include "cli/settings_table.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "models/settings.h"

namespace weft::cli {

using nlohmann::json;

std::string describeSettings() {
  std::string table;
  Config defaults;
  auto row = [&](const std::string &name, const std::string &standard, const std::string &values,
                 const std::string &meaning) {
    auto padded = [](std::string text, size_t width) {
      return text.resize(std::max(text.size() + 2, width), ' '), text;
    };
    table += padded(name, 22) + padded(standard, 17) + padded(values, 38) + meaning + "\n";
  };
  row("setting", "default", "values", "meaning");
  for (const Setting &setting : allSettings()) {
    std::string standard;
    setting.visit(defaults, [&](const auto &field) { standard = json(field).dump(); });
    const std::string range = setting.rangeText();
    row(setting.name, standard, setting.type() + (range.empty() ? "" : " " + range), setting.meaning);
  }
  row("model.inputs", "{}", "an object",
      "of inputs of the variant, in place of what it declares: {\"window\": 64}, of each layer {\"window\": [[64], "
      "[32]]}, "
      "of each head {\"tiles\": [[1, 2], [3, 4]]}, or the range of a learned one: {\"span\": [0, 99]}");
  return table;
}

}  // namespace weft::cli
