// Generated attention kernels as LibTorch operations.
//
//   torch.ops.weft.attention(variant, names, tensors) -> o
//   torch.ops.weft.attention_with_lse(variant, names, tensors) -> (o, l)
//
// `variant` is the name of a library variant, the path of a .weft file, or source text; `names` says
// which input each of `tensors` is. A variant with dropout also takes an int64 tensor [2] (seed and
// offset) under the name "seed"; without one, it is drawn from the generator of the tensors' device, on the device.
#pragma once

#include <string>
#include <vector>

#include <torch/types.h>

#include "runtime/device.h"

namespace weft::ops {

/// o: [B, H, T, E] in the type of v. Differentiable once with respect to every float input.
/// Throws c10::Error naming the input and what was expected of it.
torch::Tensor attention(const std::string &variant, const std::vector<std::string> &names,
                        const std::vector<torch::Tensor> &tensors);

/// Also l: [B, H, T] f32, the natural log-sum-exp of each row (-inf where no key is kept).
/// Throws c10::Error for a variant whose normaliser has no log-sum-exp.
std::tuple<torch::Tensor, torch::Tensor> attentionWithLse(const std::string &variant,
                                                          const std::vector<std::string> &names,
                                                          const std::vector<torch::Tensor> &tensors);

/// How many tiles of each head the kernels compute, of how many there are.
struct KeptTiles {
  int64_t total = 0;          ///< tiles a head
  std::vector<int64_t> kept;  ///< B * H entries
  int64_t keys = 0;           ///< that a row of tiles is of: S, or the length of a list
  int64_t reach = 0;  ///< a query sees nothing but the newest so many keys; all keys, where none may be forgotten
  std::vector<double> entropy;  ///< bits of the distribution of kept tiles over their distance from the diagonal
};
KeptTiles keptTiles(const std::string &variant, const std::vector<std::string> &names,
                    const std::vector<torch::Tensor> &tensors);

/// What the masks do: the probabilities of the variant with every q at zero, [H, T, S] of the first batch entry. T x S
/// numbers: for pictures and comparisons.
torch::Tensor maskShares(const std::string &variant, const std::vector<std::string> &names,
                         std::vector<torch::Tensor> tensors);

/// Where calls run from now on: "cpu", "cuda", "cuda:N", or "ptx-emulator" for CPU tensors. Gives where tensors must
/// be. Default: what WEFT_DEVICE says. Throws std::runtime_error where there is no such device.
torch::Device useDevice(const std::string &name);
/// All that the PTX emulator has executed in this process.
EmulatorReport emulatorReport();

}  // namespace weft::ops
