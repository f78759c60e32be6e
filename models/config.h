// A model and how to train it, read from JSON.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "compiler/input_range.h"

namespace weft {

struct ModelConfig {
  int64_t layers = 4, heads = 4, width = 128, context = 256;
  double dropout = 0.2;
  std::string attention = "span_periodic";  ///< a variant of ops/variants
  int64_t features = 16;                    ///< width R of content features
  /// Of inputs of the variant, by name, in place of what it declares: a value, or the range of a learned number.
  std::map<std::string, Bounds> inputs;
};

struct TrainConfig {
  int64_t steps = 600, batch = 8, accumulate = 1, warmup = 100;
  double lr = 1e-3, lrMin = 1e-4, beta1 = 0.9, beta2 = 0.99, weightDecay = 0.1, clip = 1.0;
  double spanReg = 4e-6;  ///< weight of the span regulariser
  int64_t seed = 1, logEvery = 10, saveEvery = 500;
};

struct Config {
  ModelConfig model;
  TrainConfig train;
};

/// Reads JSON `text`, then applies `key=value` settings such as train.steps=100 or steps=100.
/// Throws std::invalid_argument that names the key and what was expected.
Config parseConfig(const std::string &text, const std::string &origin, const std::vector<std::string> &settings = {});
std::string printConfig(const Config &config);

}  // namespace weft
