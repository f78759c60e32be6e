// What tensors are, for messages.
#pragma once

#include <string>

#include <torch/types.h>

namespace weft {

/// " is Float [256, 32], expected Float [256, 64]"; empty where type and sizes are the same.
std::string mismatch(const torch::Tensor &got, const torch::Tensor &expected);

}  // namespace weft
