// Random tensors for a variant, by the role each input's name says: what tuning and benchmarks run on.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "compiler/compiler.h"

namespace weft::ops {

/// Sizes of a call; S = T, G = H.
struct SampleShape {
  int64_t B = 1, H = 8, T = 2048, D = 64;
  std::string text() const;  ///< "1,8,2048,64"
};
/// "B,H,T,D". Throws std::runtime_error that says what was expected.
SampleShape parseShape(const std::string &text);

struct SampleInputs {
  std::vector<std::string> names;
  std::vector<torch::Tensor> tensors;
};
/// `span` is the reach of spans and windows in tokens (0: half of T). Periods are 4, ratios 0, a document is a quarter
/// of T, a bucket an eighth, one bool of fifty is true; other inputs are normal numbers. Floats require gradients.
SampleInputs sampleInputs(const Variant &variant, const SampleShape &shape, at::ScalarType type, torch::Device device,
                          int64_t span = 0);

/// "f32", "bf16" or "f16".
at::ScalarType scalarType(const std::string &name);

}  // namespace weft::ops
