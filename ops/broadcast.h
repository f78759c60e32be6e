// Tensors of size 1 in a dim that others have more of, as torch broadcasts them.
#pragma once

#include <optional>
#include <vector>

#include <torch/types.h>

#include "ops/arguments.h"

namespace weft::ops {

/// The tensors of a call, those of size 1 expanded, where there are any: in B of every input, in H, T and S of inputs
/// that are no rows. Rows are expanded in place; of others the kernels get a copy, and each entry its gradient.
std::optional<std::vector<at::Tensor>> broadcast(const Signature &signature, at::TensorList tensors);

}  // namespace weft::ops
