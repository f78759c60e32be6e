// Text as bytes: raw, .gz or .zip; split in train, validation and test.
#pragma once

#include <cstdint>
#include <string>

#include <torch/torch.h>

namespace weft {

struct TextData {
  torch::Tensor train, validation, test;  ///< uint8 [bytes]
  std::string description;                ///< path, bytes, how it was split
};

/// The first 90 M bytes train, the next 5 M validate, the last 5 M test when there are exactly
/// 100 M (enwik8); otherwise 90 %, 5 % and 5 %. Throws std::runtime_error.
TextData loadText(const std::string &path);

/// Inputs and targets [batch, context] (int64) of random places in `text`: the same for the same
/// seed and step.
std::pair<torch::Tensor, torch::Tensor> sampleBatch(const torch::Tensor &text, int64_t batch, int64_t context,
                                                    uint64_t seed, uint64_t step);

}  // namespace weft
