// The passes of a bound call, each an execution of its plan.
#pragma once

#include "ops/execution.h"

namespace weft::ops {

/// o [B, H, T, E] in the call's type, and what is kept of each query, f32 [rowsKept, B, H, T], first the log-sum-exp.
std::tuple<at::Tensor, at::Tensor> runForward(const Binding &call);

/// Gradients in the order of the variant's inputs, undefined for those that are not floats; rows of keys, and small
/// inputs, in f32. `o` and `rows` come from runForward; `dO` is the cotangent of o, `dLse` of the log-sum-exp, if any.
std::vector<at::Tensor> runBackward(const Binding &call, const at::Tensor &o, const at::Tensor &rows,
                                    const at::Tensor &dO, const std::optional<at::Tensor> &dLse);

/// The map of chosen tiles of a variant that selects any: bool [B, H, query tiles, key tiles].
at::Tensor runSelect(const Binding &call);

/// Binds what is kept of each query to the parts of one contiguous tensor, f32 [rowsKept, B, H, T].
void bindRows(Execution &pass, const at::Tensor &rows);

}  // namespace weft::ops
