// Gradients as means over processes, by torch's Reducer. Private to process_group.cpp: it shows c10d.
#pragma once

#include <memory>
#include <vector>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

namespace weft {

class SharedGradients {
 public:
  explicit SharedGradients(c10::intrusive_ptr<c10d::ProcessGroup> group) : group(std::move(group)) {}
  /// See ProcessGroup::backward. What fails in another process is an exception here.
  void backward(const torch::Tensor &loss, const std::vector<torch::Tensor> &parameters);

 private:
  c10::intrusive_ptr<c10d::ProcessGroup> group;
  std::unique_ptr<c10d::Reducer> reducer;
};

}  // namespace weft
