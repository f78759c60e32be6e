// The operator's inner passes by way of torch's dispatcher, as autograd, vmap and shapes alone see them.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include <torch/types.h>

namespace weft::ops {

c10::List<std::string> toList(const std::vector<std::string> &names);

/// o and what is kept of each query: see runForward.
std::tuple<at::Tensor, at::Tensor> callForward(c10::string_view variant, const c10::List<std::string> &names,
                                               at::TensorList tensors);
/// In the order of `tensors`, also of those that are no floats: empty.
std::vector<at::Tensor> callBackward(c10::string_view variant, const c10::List<std::string> &names,
                                     at::TensorList tensors, const at::Tensor &o, const at::Tensor &rows,
                                     const at::Tensor &dO, const std::optional<at::Tensor> &dLse);
/// The map of chosen tiles. Records no gradients.
at::Tensor callSelect(c10::string_view variant, const c10::List<std::string> &names, at::TensorList tensors);

}  // namespace weft::ops
