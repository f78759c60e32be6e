// Parts of a transformer's block that a setting chooses.
#pragma once

#include <string>
#include <utility>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include "models/places.h"

namespace weft {

/// "layer": LayerNorm with scale and shift. "rms": RMSNorm with a scale alone (Zhang and Sennrich, 2019).
class NormImpl : public torch::nn::Module {
 public:
  NormImpl(const std::string &kind, int64_t width);
  torch::Tensor forward(const torch::Tensor &x);

 private:
  torch::Tensor weight, bias;
};
TORCH_MODULE(Norm);

/// Between the two products of a block's network: GELU, the square of ReLU (So et al., "Primer", 2021), or SwiGLU
/// (Shazeer, 2020), which takes x [..., 2 N] to [..., N].
torch::Tensor activate(const std::string &network, const torch::Tensor &x);

/// Of rows their root mean square taken to 1.
torch::Tensor unitRms(const torch::Tensor &x);

/// Rotary positions (Su et al., "RoFormer", 2021): features 2 n and 2 n + 1 of a query or a key are turned by
/// position / base^(2n / D), base 10,000.
struct Rotation {
  torch::Tensor turns;  ///< complex [T, 2 H D / 2], of queries and keys; null: nothing is turned

  static Rotation ofPositions(int64_t count, int64_t heads, int64_t headDim);
  Rotation at(const Places &places) const;
  /// [B, T, 2, H, D] -> queries and keys [B, T, H, D], of the same type.
  std::pair<torch::Tensor, torch::Tensor> apply(const torch::Tensor &queriesAndKeys) const;
};

}  // namespace weft
