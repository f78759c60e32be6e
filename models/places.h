// Which tokens of a longer text a tensor's rows are.
#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

namespace weft {

/// `count` tokens from `first` on.
struct Stretch {
  int64_t first = 0, count = 0;
};
/// One behind the other.
using Places = std::vector<Stretch>;

/// The rows of `table` that stand at these places of dim `dim`: without a copy where they are one stretch.
inline torch::Tensor at(const Places &places, const torch::Tensor &table, int64_t dim = 0) {
  std::vector<torch::Tensor> parts;
  for (const Stretch &own : places) parts.push_back(table.slice(dim, own.first, own.first + own.count));
  return parts.size() == 1 ? parts[0] : torch::cat(parts, dim);
}

}  // namespace weft
