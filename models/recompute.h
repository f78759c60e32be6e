// Activation checkpointing: memory for time.
#pragma once

#include <functional>

#include <torch/types.h>

namespace weft {

/// block(x), of which the backward pass keeps x alone and computes the rest again: with the same random choices, under
/// the same autocast. The gradients of the block's parameters are added to them as a backward pass does.
torch::Tensor recomputed(const std::function<torch::Tensor(const torch::Tensor &)> &block, const torch::Tensor &x);

}  // namespace weft
