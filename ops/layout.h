// How rows [B, H, T, D] lie in memory: results lie as what they are made of, so that `transpose(1, 2).flatten(2)` of a
// model copies nothing.
#pragma once

#include <torch/types.h>

#include "ops/arguments.h"

namespace weft::ops {

/// True where the heads of a token lie beside each other: a transposed [B, T, H, D].
bool tokensFirst(const at::Tensor &rows);

/// The same of o: as the first rows of queries among the inputs. `tensors` in the order of the call.
bool outputHasTokensFirst(const Signature &signature, at::TensorList tensors);

/// Rows of a shape and layout, not initialised.
at::Tensor emptyRows(c10::SymIntArrayRef shape, bool tokensFirst, const at::TensorOptions &options);

}  // namespace weft::ops
