// Rows of tokens in an order of each head's own.
#pragma once

#include <torch/types.h>

namespace weft::ops {

/// `order` int64 [1 or B, H, T] as the index along dim 2 of rows [B, H, T, D].
inline torch::Tensor rowIndex(const torch::Tensor &order, const torch::Tensor &rows) {
  return order.unsqueeze(3).expand({rows.size(0), order.size(1), order.size(2), rows.size(3)});
}

/// Rows [B, G, T, D] in the orders of H heads: [B, H, T, D], for heads of one group may differ. Differentiable.
inline torch::Tensor inOrder(const torch::Tensor &rows, const torch::Tensor &order) {
  const int64_t heads = order.size(1);
  const torch::Tensor all = rows.size(1) == heads ? rows : rows.repeat_interleave(heads / rows.size(1), 1);
  return all.gather(2, rowIndex(order, all));
}

/// Undoes inOrder.
inline torch::Tensor asBefore(const torch::Tensor &rows, const torch::Tensor &order) {
  return rows.gather(2, rowIndex(std::get<1>(order.sort(2)), rows));
}

}  // namespace weft::ops
