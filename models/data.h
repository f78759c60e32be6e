// Text as bytes: raw, .gz or .zip; split in train, validation and test.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <torch/types.h>

namespace weft {

struct TextData {
  torch::Tensor train, validation, test;  ///< uint8 [bytes]
  std::string description;                ///< path, bytes, how it was split
};

constexpr int64_t defaultTextLimit = int64_t{4} << 30;

/// The first 90 M bytes train, the next 5 M validate, the last 5 M test when there are exactly
/// 100 M (enwik8); otherwise 90 %, 5 % and 5 %. What a file is, its first bytes say. Throws std::runtime_error: not a
/// file, cut short, damaged, of another compression, or more than `limit` bytes of text (never more than those are
/// held).
TextData loadText(const std::string &path, int64_t limit = defaultTextLimit);

/// Of a text or a part of it, uint8 [bytes]; they stay the tensor's.
std::string_view bytesOf(const torch::Tensor &text);
/// SHA-256 of the whole text, in hexadecimal digits.
std::string digest(const TextData &data);

/// Of a batch's rows `count` from `first` on.
struct Rows {
  int64_t first = 0, count = 0;
};

/// Inputs and targets [rows.count, context] (int64): of the batch of a step, random places in `text`, these rows. The
/// same for the same seed and step.
std::pair<torch::Tensor, torch::Tensor> sampleRows(const torch::Tensor &text, Rows rows, int64_t context, uint64_t seed,
                                                   uint64_t step);

}  // namespace weft
