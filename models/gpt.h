// A byte-level GPT whose attention is any causal variant of ops/variants.
//
// Pre-norm blocks. As published: LayerNorm, GELU, a learned position embedding at the input and again before every
// later block; input embedding and output layer share their weights. Settings choose newer parts (models/layers.h). A
// variant's own inputs become learned parameters or small networks of each layer (models/variant_inputs.h).
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include "models/config.h"
#include "models/layers.h"
#include "models/places.h"
#include "models/sequence_share.h"
#include "models/variant_inputs.h"

namespace weft {

/// Attention itself: inputs -> o [B, H, T, E].
using Attend = std::function<torch::Tensor(const AttentionInputs &)>;

class AttentionImpl : public torch::nn::Module {
 public:
  /// Of the layer of this number.
  AttentionImpl(const ModelConfig &config, int64_t layer);
  /// [B, T, width] -> the same. `rotation`: of the positions of x, see Rotation; null where none are told.
  torch::Tensor forward(const torch::Tensor &x, const Rotation &rotation, const Attend &attend);
  AttentionInputs inputs(const torch::Tensor &x, const Rotation &rotation);
  VariantInputs made{nullptr};  ///< besides q, k, v

 private:
  ModelConfig config;
  torch::nn::Linear projection{nullptr}, output{nullptr};
};
TORCH_MODULE(Attention);

class BlockImpl : public torch::nn::Module {
 public:
  BlockImpl(const ModelConfig &config, int64_t layer);
  torch::Tensor forward(const torch::Tensor &x, const Rotation &rotation, const Attend &attend);
  Attention attention{nullptr};
  Norm norm1{nullptr}, norm2{nullptr};

 private:
  std::string network;
  torch::nn::Linear up{nullptr}, down{nullptr};
  torch::nn::Dropout dropout{nullptr};
};
TORCH_MODULE(Block);

class GptImpl : public torch::nn::Module {
 public:
  explicit GptImpl(const ModelConfig &config);
  /// tokens int64 [B, T], T up to the context -> logits [B, T, 256]. In training, where processes share sequences,
  /// those of the own part.
  torch::Tensor forward(const torch::Tensor &tokens);
  /// The same for tokens at these places of a longer text, whose attention `attend` computes by layer.
  torch::Tensor forward(const torch::Tensor &tokens, const Places &places,
                        const std::function<torch::Tensor(size_t layer, const AttentionInputs &)> &attend);
  torch::Tensor reachCost() const;  ///< sum over layers: see VariantInputs
  torch::Device device() const { return embedding.device(); }
  /// Attention inputs of every layer for `tokens` (for statistics and pictures).
  std::vector<AttentionInputs> attentionInputs(const torch::Tensor &tokens);
  /// The first layer whose output is not finite, as text; empty where all are finite.
  std::string firstNonFinite(const torch::Tensor &tokens);
  int64_t parameterCount() const;
  /// True for matrices between a block's features, which Muon and weight decay are for: weights of its products.
  static bool isMatrix(const std::string &name, const torch::Tensor &parameter);
  /// Of how many matrices, one below the other, such a parameter of a block's own consists: of q, k and v, say. The
  /// small networks of a variant's inputs count as one.
  static int64_t matricesIn(const std::string &name, const ModelConfig &config);
  /// Floating-point operations of a forward and backward pass for each token; `kept` is the share of
  /// attention tiles computed.
  double flopsPerToken(double kept) const;

  ModelConfig config;
  std::vector<Block> blocks;
  /// Training keeps the inputs of blocks alone, and computes them again in the backward pass.
  bool recompute = false;
  /// Of processes that share each sequence in training; null where each has whole ones.
  c10::intrusive_ptr<SequenceShare> share;

 private:
  torch::Tensor embedding, position;  ///< no `position` where it is not learned
  torch::nn::Linear output{nullptr};  ///< null where it is the embedding
  Norm norm{nullptr};
  torch::nn::Dropout dropout{nullptr};
  Rotation rotation;  ///< of all positions of the context
  void initialize();
  torch::Tensor embed(const torch::Tensor &tokens, const Places &places);
  /// What block `at` is given.
  torch::Tensor enter(size_t at, const torch::Tensor &x, const Places &places) const;
  Rotation rotationOf(const torch::Tensor &x, const Places &places);
  Attend whole() const;  ///< by the operator, over all tokens
  std::string variant;   ///< of the whole run, whatever becomes of its file
};
TORCH_MODULE(Gpt);

}  // namespace weft
