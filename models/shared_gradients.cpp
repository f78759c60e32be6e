#include "models/shared_gradients.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include <torch/types.h>

namespace weft {

using torch::Tensor;
using torch::autograd::Node;

/// Those that the graph behind `loss` leads to. A variant may leave one alone, and the Reducer would wait for its
/// gradient.
static std::vector<Tensor> reached(const Tensor &loss, const std::vector<Tensor> &parameters) {
  std::unordered_set<Node *> seen;
  std::vector<Node *> open{loss.grad_fn().get()};
  while (!open.empty()) {
    Node *node = open.back();
    open.pop_back();
    if (!node || !seen.insert(node).second) continue;
    for (const torch::autograd::Edge &edge : node->next_edges()) open.push_back(edge.function.get());
  }
  std::vector<Tensor> found;
  for (const Tensor &parameter : parameters)
    if (parameter.requires_grad() && seen.contains(torch::autograd::impl::grad_accumulator(parameter).get()))
      found.push_back(parameter);
  return found;
}

static std::unique_ptr<c10d::Reducer> makeReducer(const c10::intrusive_ptr<c10d::ProcessGroup> &group,
                                                  const std::vector<Tensor> &parameters) {
  c10d::verify_params_across_processes(group, parameters, std::nullopt);
  const std::vector<size_t> limits{c10d::kDefaultFirstBucketBytes, c10d::kDefaultBucketBytesCap};
  auto buckets = std::get<0>(c10d::compute_bucket_assignment_by_size(parameters, limits));
  // Gradients come in about the order from the last parameter to the first; after the first pass the Reducer knows.
  std::reverse(buckets.begin(), buckets.end());
  // Not as views of the buckets: the optimizer lets go of gradients between steps.
  return std::make_unique<c10d::Reducer>(parameters, std::move(buckets), group,
                                         std::vector<bool>(parameters.size(), false), c10d::kDefaultBucketBytesCap,
                                         /*find_unused_parameters=*/false, /*gradient_as_bucket_view=*/false,
                                         /*param_names=*/std::unordered_map<size_t, std::string>(),
                                         c10d::kDefaultFirstBucketBytes,
                                         /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
                                         /*bucket_bytes_cap_list=*/std::vector<int64_t>());
}

void SharedGradients::backward(const Tensor &loss, const std::vector<Tensor> &parameters) {
  if (!reducer) reducer = makeReducer(group, reached(loss, parameters));
  reducer->rebuild_buckets();
  reducer->prepare_for_backward({loss});
  loss.backward();
}

}  // namespace weft
