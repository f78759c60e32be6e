// What a model gives a variant beside q, k and v, made by what the variant declares of each input:
//
//   float [H], []            a learned number; with a range, of that range. Without a gradient: its value
//   float [H, N]             a learned table, N the model's context
//   float [B, H, T]          a number of each query, by a network of the mean over all tokens
//   float [B, H, T or S, R]  rows of features, by a network of the token
//   int [H], []              its value
//
// Values and first values are the typical ones for the model's context, or those of the setting model.inputs, which may
// differ from layer to layer and from head to head.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include "compiler/compiler.h"
#include "models/config.h"

namespace weft {

/// Names and tensors of one call of the attention operator.
struct AttentionInputs {
  std::vector<std::string> names;
  std::vector<torch::Tensor> tensors;
};

/// True where an input of the variant is made of all tokens at once.
bool readsAllTokens(const Variant &variant);

class VariantInputsImpl : public torch::nn::Module {
 public:
  /// Of the layer of this number. Throws std::invalid_argument where the variant has an input that a model cannot make,
  /// or a setting names none of its.
  VariantInputsImpl(const ModelConfig &config, int64_t layer);

  /// Adds them to a call for tokens x: [B, T, width].
  void add(AttentionInputs &call, const torch::Tensor &x);
  /// Learned numbers and tables by name: [heads], [], [heads, N].
  std::map<std::string, torch::Tensor> learned() const;
  /// These and values, all that does not hang on the tokens.
  std::map<std::string, torch::Tensor> numbers() const;
  /// The values that input `name` can have here: of a learned number those that its parameter reaches, of a value those
  /// that the variant declares. An open side is infinite. Throws std::invalid_argument where it is no number, or one of
  /// each head.
  Bounds reachable(const std::string &name) const;
  /// The mean reach of the heads, a term of the loss: of numbers up to T; 0 without any.
  torch::Tensor reachCost() const;

 private:
  enum class Source { Number, Table, Value, QueryNumber, Features };
  struct Made {
    InputInfo info;
    Source source = Source::Value;
    Bounds range{0, 0};       ///< an open side is infinite
    torch::Tensor parameter;  ///< Number, Table: unbounded; Value: itself
    int64_t place = 0;        ///< Features: which part of the network's output
  };

  ModelConfig config;
  int64_t layer;
  bool wave = false;  ///< a learned period thins what a head sees
  std::vector<Made> inputs;
  torch::nn::Linear hidden{nullptr}, features{nullptr}, gates{nullptr};

  Source sourceOf(const InputInfo &info) const;
  void makeNumber(Made &made);
  torch::Tensor numberOf(const Made &made) const;
};
TORCH_MODULE(VariantInputs);

}  // namespace weft
