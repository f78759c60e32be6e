// Attention of the newest token alone, for decoding with a cache of keys and values.
//
//   torch.ops.weft.decode(variant, names, tensors) -> o [B, H, 1, E]
//
// Equal to the last row of torch.ops.weft.attention over T = S tokens: inputs with a T dim give its last entry alone
// (size 1), inputs with an S dim all S of them, any strides: a slice of a larger cache will do. Only the tiles of keys
// that this row keeps are read.
#pragma once

#include <string>
#include <vector>

#include <torch/torch.h>

namespace weft::ops {

/// Throws c10::Error naming the input and what was expected of it. Has no gradient.
torch::Tensor decode(const std::string &variant, const std::vector<std::string> &names, const std::vector<torch::Tensor> &tensors);

}  // namespace weft::ops
