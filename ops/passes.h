// The two passes of a bound call: which kernels run, over what memory.
#pragma once

#include "ops/binding.h"

namespace weft::ops {

/// Where the kernels write and read what is kept of each query, f32 [rowsKept, B, H, T].
void bindKept(Binding &call, const at::Tensor &rows);

/// o [B, H, T, E] in the call's type, and what is kept of each query, first the log-sum-exp.
std::tuple<at::Tensor, at::Tensor> runForward(Binding &call);

/// Gradients in the order of the variant's inputs, undefined for those that are not floats; rows of keys, and small
/// inputs, in f32. `o` and `rows` come from runForward; `dO` is the cotangent of o, `dLse` of the log-sum-exp, if any.
std::vector<at::Tensor> runBackward(Binding &call, const at::Tensor &o, const at::Tensor &rows, const at::Tensor &dO,
                                    const std::optional<at::Tensor> &dLse);

/// True where the backward pass of this call is one kernel, false where dq comes apart from dk and dv.
bool isFused(const Binding &call);

}  // namespace weft::ops
