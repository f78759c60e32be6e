#include "cli/timeline.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <stdexcept>

#include "autotune/call_timeline.h"
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
  throw std::runtime_error("no GPU of " + target + " is modelled; --device-model names one, such as h200");
}

int printTimeline(const std::string &variant, const std::string &kernel, const std::string &type,
                  const std::string &deviceModel, const ops::SampleShape &shape, int64_t span,
                  const std::optional<Schedule> &schedule) {
  const timeline::Chip &chip = timeline::chip(deviceModel);
  const auto known = kernelNames(*findVariant(variant), true);
  if (std::ranges::find(known, kernel) == known.end()) {
    std::string names;
    for (const std::string &name : known) names += (names.empty() ? "" : ", ") + name;
    throw std::runtime_error("no kernel '" + kernel + "'; the variant has " + names);
  }
  const autotune::Problem problem = problemOf(variant, kernel.starts_with("backward"), type, shape, span);
  const autotune::CallTimeline call(problem, chip);
  const Schedule used = schedule ? *schedule : call.untuned();
  std::printf("%s [%s] %s, %s\n", findVariant(variant)->name().c_str(), shape.text().c_str(), type.c_str(),
              describe(used, timeline::architecture(chip)).c_str());
  std::fputs(timeline::page(call.predict(kernel, used)).c_str(), stdout);
  return 0;
}

void printRanking(const std::string &variant, bool backward, const std::string &type, const std::string &deviceModel,
                  const ops::SampleShape &shape, int64_t span) {
  constexpr size_t refined = 20, shown = 12;
  const timeline::Chip &chip = timeline::chip(deviceModel);
  const std::string target = timeline::architecture(chip);
  const autotune::Problem problem = problemOf(variant, backward, type, shape, span);
  const autotune::CallTimeline call(problem, chip);
  const bool terminal = isatty(STDERR_FILENO);
  const auto ranking = autotune::rank(call, backward, refined, [&](size_t done, size_t total) {
    if (terminal) std::fprintf(stderr, "\r\033[Kpredicting %zu/%zu", done, total);
  });
  if (terminal) std::fprintf(stderr, "\r\033[K");
  const Schedule first = call.untuned();
  std::printf("%s %s %s [%s] on %s: predicted, not measured\n", findVariant(variant)->name().c_str(),
              backward ? "backward" : "forward", type.c_str(), shape.text().c_str(), timeline::product(chip).c_str());
  size_t count = 0;
  for (const autotune::Prediction &prediction : ranking) {
    const bool isDefault = prediction.schedule == first;
    if (!prediction.refined && !isDefault) continue;
    if (count++ >= shown && !isDefault) continue;
    if (prediction.refined)
      std::printf("  %-36s %9.3f ms predicted%s\n", describe(prediction.schedule, target).c_str(),
                  1e3 * prediction.seconds, isDefault ? "  default" : "");
    else
      std::printf("  %-36s not predicted: %s\n", describe(prediction.schedule, target).c_str(),
                  prediction.error.c_str());
  }
  const size_t counted = std::ranges::count_if(ranking, [](const auto &p) { return !p.refined; });
  std::printf("  %zu more schedules were counted alone and ranked behind these\n", counted);
}

}  // namespace weft::cli
