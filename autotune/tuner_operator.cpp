// The tuner from Python: torch.ops.weft.tune(variant, names, tensors, backward, budget, again) -> JSON.
#include <torch/library.h>
#include <torch/types.h>

#include <nlohmann/json.hpp>

#include "autotune/tuner.h"
#include "ops/devices.h"

namespace weft::autotune {
namespace {

std::string tuneCall(const std::string &variant, const c10::List<std::string> &names, at::TensorList tensors,
                     bool backward, double budget, bool again) {
  TuneOptions options;
  options.budget = budget;
  options.again = again;
  Problem problem{variant, {names.begin(), names.end()}, {tensors.begin(), tensors.end()}, backward, ""};
  for (torch::Tensor &tensor : problem.tensors) tensor = tensor.detach();
  for (size_t at = 0; at < problem.names.size() && at < problem.tensors.size(); ++at)
    if (const torch::Tensor &q = problem.tensors[at]; problem.names[at] == "q" && q.dim() == 4)
      for (int64_t size : q.sizes()) problem.shape += (problem.shape.empty() ? "" : ",") + std::to_string(size);
  const Outcome outcome = tune(problem, options);
  const std::string target = targetOf(ops::deviceOf(tensors));
  const char *ends[] = {"known", "complete", "budget spent", "stopped"};
  nlohmann::ordered_json found{{"schedule", describe(outcome.entry.schedule, target)},
                               {"seconds", outcome.entry.seconds},
                               {"default_seconds", outcome.entry.defaultSeconds},
                               {"candidates", outcome.entry.points.size()},
                               {"samples", outcome.measured},
                               {"end", ends[static_cast<int>(outcome.end)]}};
  return found.dump();
}

TORCH_LIBRARY_FRAGMENT(weft, library) {
  library.def("tune(str variant, str[] names, Tensor[] tensors, bool backward, float budget, bool again=False) -> str");
}
TORCH_LIBRARY_IMPL(weft, CompositeExplicitAutograd, library) { library.impl("tune", tuneCall); }

}  // namespace
}  // namespace weft::autotune
