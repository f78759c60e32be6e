#include "cli/timeline.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <stdexcept>

#include <torch/utils.h>

#include "autotune/modelled_call.h"
#include "ops/variant_library.h"

namespace weft::cli {
namespace {

autotune::Problem problemOf(const std::string &variant, bool backward, const std::string &type,
                            const ops::SampleShape &shape, int64_t span) {
  torch::manual_seed(0);
  auto inputs = ops::sampleInputs(*findVariant(variant), shape, ops::scalarType(type), torch::kCPU, span);
  return {variant, inputs.names, inputs.tensors, backward, shape.text()};
}

}  // namespace

std::string deviceModelOf(const std::string &target) {
  for (const auto &[prefix, name] : {std::pair{"sm_80", "a100"}, {"sm_89", "l40s"}, {"sm_90", "h200"}})
    if (target.starts_with(prefix)) return name;
  throw std::runtime_error("expected --device-model (h200, ...), or sm_80, sm_89 or sm_90 for --target, got '" +
                           target + "'");
}

int printTimeline(const std::string &variant, const std::string &kernel, const std::string &type,
                  const std::string &deviceModel, const ops::SampleShape &shape, int64_t span,
                  const std::optional<Schedule> &schedule) {
  const timeline::Chip &chip = timeline::chip(deviceModel);
  const autotune::Problem problem = problemOf(variant, kernel.starts_with("backward"), type, shape, span);
  const auto own = ops::variantOfCall(variant, problem.names, problem.tensors);
  const auto known = kernelNames(*own, true, true);
  if (std::ranges::find(known, kernel) == known.end()) {
    std::string names;
    for (const std::string &name : known) names += (names.empty() ? "" : ", ") + name;
    throw std::runtime_error("no kernel '" + kernel + "'; the variant has " + names);
  }
  const autotune::ModelledCall call(problem, chip);
  const Schedule used = schedule ? *schedule : call.untuned();
  if (const std::string wrong = illegal(used, *own); !wrong.empty()) throw std::runtime_error(wrong);
  std::printf("%s [%s] %s, %s\n", findVariant(variant)->name().c_str(), shape.text().c_str(), type.c_str(),
              describe(used, timeline::architecture(chip)).c_str());
  std::fputs(timeline::page(call.timeline().predict(kernel, used)).c_str(), stdout);
  return 0;
}

void printRanking(const std::string &variant, bool backward, const std::string &type, const std::string &deviceModel,
                  const ops::SampleShape &shape, int64_t span) {
  constexpr size_t shown = 12;
  const timeline::Chip &chip = timeline::chip(deviceModel);
  const std::string target = timeline::architecture(chip);
  const autotune::Problem problem = problemOf(variant, backward, type, shape, span);
  const autotune::ModelledCall call(problem, chip);
  const bool terminal = isatty(STDERR_FILENO);
  size_t known = 0;
  const std::vector<TuningPoint> points = call.rank(
      [&](size_t done, size_t total) {
        if (terminal) std::fprintf(stderr, "\r\033[Kpredicting %zu/%zu", done, total);
      },
      known);
  if (terminal) std::fprintf(stderr, "\r\033[K");
  std::printf(
      "%s %s %s [%s] on %s, predicted, not measured: %zu schedules, the best %zu by their code, others by a count\n",
      findVariant(variant)->name().c_str(), backward ? "backward" : "forward", type.c_str(), shape.text().c_str(),
      timeline::product(chip).c_str(), points.size(), known);
  // The default is the first; the others follow in their order.
  auto print = [&](const TuningPoint &point, const char *what) {
    std::printf("  %-36s %9.3f ms predicted%s%s%s\n", describe(point.schedule, target).c_str(), 1e3 * point.predicted,
                what, point.note.empty() ? "" : "  ", point.note.substr(0, point.note.find('\n')).c_str());
  };
  bool printed = false;
  for (size_t at = 1; at < points.size() && at <= shown; ++at) {
    if (!printed && points[0].predicted <= points[at].predicted) {
      print(points[0], "  default");
      printed = true;
    }
    print(points[at], "");
  }
  if (!printed) print(points[0], "  default");
}

}  // namespace weft::cli
