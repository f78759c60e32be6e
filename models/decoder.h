// One token at a time: a model that keeps the keys and values of all earlier tokens.
#pragma once

#include "models/gpt.h"

namespace weft {

class Decoder {
 public:
  /// True where the model's attention of a token depends on earlier tokens alone.
  static bool supports(const Gpt &model);
  explicit Decoder(Gpt &model);

  /// Logits [n, 256] of tokens int64 [n] that follow those given before. Several at once must be the first ones; all
  /// together at most the model's context.
  torch::Tensor advance(const torch::Tensor &tokens);
  int64_t position() const { return done; }
  /// Forgets all tokens.
  void reset();
  /// Bytes of keys, values and other cached rows now held.
  int64_t cacheBytes() const;

 private:
  /// Rows of one input by token: [1, heads, capacity, width], of which `count` are the newest.
  struct Rows {
    torch::Tensor memory;
    int64_t count = 0;
  };
  Gpt model;
  int64_t done = 0;
  std::vector<std::map<std::string, Rows>> layers;
  std::vector<int64_t> reaches;  ///< 0: not computed yet

  torch::Tensor keep(Rows &rows, const torch::Tensor &added, int64_t reach);
  int64_t reachOf(size_t layer, const AttentionInputs &call);
};

}  // namespace weft
