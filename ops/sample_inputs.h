// Random tensors for a variant, by what its declarations say of their values: what tuning and benchmarks run on.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <torch/types.h>

#include "compiler/compiler.h"

namespace weft::ops {

/// Sizes of a call; S = T.
struct SampleShape {
  int64_t B = 1, H = 8, T = 2048, D = 64;
  int64_t G = 0;             ///< 0: as H
  std::string text() const;  ///< "1,8,2048,64"
};
/// "B,H,T,D". Throws std::runtime_error that says what was expected.
SampleShape parseShape(const std::string &text);

struct SampleInputs {
  std::vector<std::string> names;
  std::vector<torch::Tensor> tensors;
};
/// Typical values where they are declared, else values of the range, else normal numbers; one bool of fifty is true,
/// lists of keys name an eighth of them. `span`, above 0, is the value of inputs up to T or S that are one number, or
/// one a head: spans and windows. Floats require gradients. `shapesAlone`: rows that no selection pools are one number,
/// expanded, for what looks at their shapes.
SampleInputs sampleInputs(const Variant &variant, const SampleShape &shape, at::ScalarType type, torch::Device device,
                          int64_t span = 0, bool shapesAlone = false);

/// "f32", "bf16" or "f16".
at::ScalarType scalarType(const std::string &name);

}  // namespace weft::ops
