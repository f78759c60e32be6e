// What a tensor is, for messages.
#pragma once

#include <string>

#include <torch/torch.h>

namespace weft {

/// "Float [256, 32]".
std::string describe(const torch::Tensor &tensor);

}  // namespace weft
