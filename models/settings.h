// Every setting of a model and its training: one row says its name, its place, what it may be and what it means.
#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "models/config.h"

namespace weft {

struct Range {
  double least = -std::numeric_limits<double>::infinity(), most = std::numeric_limits<double>::infinity();
  bool above = false, below = false;  ///< the least, the most itself is not in the range
  bool holds(double value) const;
};

struct Setting {
  const char *name;  ///< section.key
  std::variant<int64_t ModelConfig::*, double ModelConfig::*, std::string ModelConfig::*, int64_t TrainConfig::*,
               double TrainConfig::*, std::string TrainConfig::*>
      place;
  Range range;  ///< of numbers
  const char *meaning;
  std::vector<std::string> choices = {};  ///< the texts that it may be; empty: any

  std::string section() const;
  std::string key() const;
  bool isText() const;
  /// Calls visit(field) with the setting's field of `config`: an int64_t &, double & or std::string &.
  template <class Visit>
  void visit(Config &config, Visit visit) const {
    std::visit([&](auto member) { visit(of(config, member)); }, place);
  }
  std::string type() const;       ///< "an integer", "a number", "a text", "learned, rotary or none"
  std::string rangeText() const;  ///< "from 1 to 1000", "above 0"; empty for texts

 private:
  template <class T>
  static T &of(Config &config, T ModelConfig::*member) {
    return config.model.*member;
  }
  template <class T>
  static T &of(Config &config, T TrainConfig::*member) {
    return config.train.*member;
  }
};

const std::vector<Setting> &allSettings();
/// The setting that `text`, which names none, most likely means, by its key alone or with its section.
std::string nearestSetting(const std::string &text);

}  // namespace weft
