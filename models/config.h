// A model and how to train it, read from JSON.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "compiler/input_range.h"

namespace weft {

/// What a setting says of an input of the variant, in place of what that declares.
struct GivenInput {
  Bounds range{0, 0};  ///< a value, of both ends, or the range of a learned number
  /// Instead, where there are any: of each layer the value of all heads, or of each of them.
  std::vector<std::vector<double>> layers;
};

struct ModelConfig {
  int64_t layers = 4, heads = 4, width = 128, context = 256;
  double dropout = 0.2;
  std::string attention = "span_periodic";  ///< a variant of ops/variants
  int64_t features = 16;                    ///< width R of content features
  std::string positions = "learned";        ///< learned, rotary, none
  std::string norm = "layer";               ///< layer, rms
  std::string network = "gelu";             ///< gelu, relu2, swiglu
  std::string output = "tied";              ///< to the embedding, or of its own
  std::string qkNorm = "none";              ///< none, rms: of the queries and keys of each head
  int64_t inner = 0;                        ///< features inside of a block's network; 0: see innerWidth
  /// Of the variant, by name.
  std::map<std::string, GivenInput> inputs;

  /// Features inside of a block's network: those given, else four times the width. A gate takes a third matrix: 8/3 of
  /// the width for it, so that the network has as many parameters.
  int64_t innerWidth() const;
};

struct TrainConfig {
  int64_t steps = 600, batch = 8, accumulate = 1, warmup = 100;
  double lr = 1e-3, lrMin = 1e-4, beta1 = 0.9, beta2 = 0.99, weightDecay = 0.1, clip = 1.0;
  double spanReg = 4e-6;  ///< weight of the span regulariser
  int64_t seed = 1, logEvery = 10, saveEvery = 500;
  std::string optimizer = "adamw";  ///< adamw, muon
  double muonLr = 0.02;             ///< learning rate of the matrices under Muon
  double momentum = 0.95;           ///< of Muon
  std::string schedule = "cosine";  ///< cosine, linear
  double cooldown = 0.5;            ///< share of the steps in which a linear schedule falls
  std::string precision = "auto";   ///< auto, f32, bf16, f16: see models/precision.h
  std::string recompute = "none";   ///< none, blocks: what the backward pass computes again instead of keeping it
  int64_t validateEvery = 0, validateBytes = 65536;
  int64_t contextParallel = 1;  ///< processes that share each sequence
  double saveMinutes = 0;
  int64_t keep = 1;
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
