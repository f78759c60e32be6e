// Attention of the newest token alone, for decoding with a cache of keys and values.
//
//   torch.ops.weft.decode(variant, names, tensors) -> o [B, H, 1, E]
//
// Equal to the last row of torch.ops.weft.attention over T = S tokens: inputs with a T dim give its last entry alone
// (size 1), inputs with an S dim all S of them, any strides: a slice of a larger cache will do. Only the tiles of keys
// that this row keeps are read. What a `select` pools of the queries is needed whole, with all S rows.
//
//   torch.ops.weft.decode_paged(variant, names, tensors, pages, length) -> o [B, H, 1, E]
//
// The same where rows of keys lie in pages: k, v and other operands of dots with an S dim are pools [P, G, page, D],
// and row j of sequence b is row j mod page of pool entry pages[b, j / page] (an integer tensor [B, n], n * page >=
// length). A page has a multiple of 16 tokens; all sequences have `length` of them. Nothing is copied.
//
// A tensor named `lengths`, integers [B], gives each sequence a length of its own, up to the S keys (`length` in pages)
// that there is room for, and lets T be any number of newest tokens: o [B, H, T, E] are the last T rows of attention
// over the lengths[b] tokens of each sequence. Rows of keys past them are masked, and must be finite numbers; pages
// past them are not looked at.
#pragma once

#include <string>
#include <vector>

#include <torch/types.h>

namespace weft::ops {

/// Throws c10::Error naming the input and what was expected of it. Has no gradient.
torch::Tensor decode(const std::string &variant, const std::vector<std::string> &names,
                     const std::vector<torch::Tensor> &tensors);

torch::Tensor decodePaged(const std::string &variant, const std::vector<std::string> &names,
                          const std::vector<torch::Tensor> &tensors, const torch::Tensor &pages, int64_t length);

}  // namespace weft::ops
