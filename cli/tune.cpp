// weft tune: the fastest schedules of variants on this device, measured, kept, and explained.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include <torch/utils.h>

#include "autotune/samples.h"
#include "autotune/tuner.h"
#include "cli/commands.h"
#include "cli/timeline.h"
#include "cli/tuning.h"
#include "models/interrupt.h"
#include "models/user_files.h"
#include "ops/attention.h"
#include "ops/sample_inputs.h"
#include "ops/variant_library.h"
#include "runtime/environment.h"

namespace weft::cli {
namespace {

struct Options {
  std::vector<std::string> variants, shapes, types{"f32"};
  std::string direction = "both", device = "cpu", budget = "60s", exportTo, importFrom;
  int64_t span = 0;
  bool list = false, explain = false, flush = false, again = false;
};

void printList(const ScheduleCache &cache, const std::vector<TuningEntry> &entries, const std::string &target) {
  std::printf("%s\n", cache.path().c_str());
  if (entries.empty()) std::printf("nothing tuned yet; try: weft tune causal --shapes 1,8,2048,64\n");
  for (const TuningEntry &entry : entries)
    std::printf("%-72s %-32s %9.3f ms  %5.2fx default%s%s\n", describe(entry.key).c_str(),
                describe(entry.schedule, target).c_str(), 1e3 * entry.seconds,
                entry.defaultSeconds / std::max(entry.seconds, 1e-12), entry.complete ? "" : "  (not finished)",
                entry.build == buildIdentity() ? "" : "  (of another build: not used)");
}

void printExplanation(const TuningEntry &entry, const std::string &target) {
  std::printf("%s, measured on %s%s\n", describe(entry.key).c_str(), entry.shape.c_str(),
              entry.complete ? "" : " (not finished)");
  std::vector<const TuningPoint *> points;
  for (const TuningPoint &point : entry.points) points.push_back(&point);
  auto time = [](const TuningPoint *point) {
    return point->samples.empty() ? HUGE_VAL : autotune::median(point->samples);
  };
  std::stable_sort(points.begin(), points.end(), [&](auto *a, auto *b) { return time(a) < time(b); });
  std::printf("  %-34s %10s %8s %8s %10s\n", "schedule", "time", "+-", "samples", "model");
  for (const TuningPoint *point : points) {
    const bool first = point == &entry.points.front(), best = point->schedule == entry.schedule;
    if (point->samples.empty())
      std::printf("  %-34s %10s %8s %8s %7.3f ms", describe(point->schedule, target).c_str(), "-", "-", "0",
                  1e3 * point->predicted);
    else {
      char off[16] = "?";  // too few samples to tell
      if (const double share = autotune::uncertainty(point->samples); std::isfinite(share))
        std::snprintf(off, sizeof off, "%.1f%%", 100 * share);
      std::printf("  %-34s %7.3f ms %8s %8zu %7.3f ms", describe(point->schedule, target).c_str(), 1e3 * time(point),
                  off, point->samples.size(), 1e3 * point->predicted);
    }
    std::printf("%s%s%s%s\n", best ? "  chosen" : "", first ? "  default" : "", point->note.empty() ? "" : "  ",
                point->note.c_str());
  }
  std::printf(
      "  chosen %s: %.3f ms against the default's %.3f ms in the same rounds (%.2fx). The model ranked with rho = %.2f",
      describe(entry.schedule, target).c_str(), 1e3 * entry.seconds, 1e3 * entry.defaultSeconds,
      entry.defaultSeconds / std::max(entry.seconds, 1e-12), autotune::rankCorrelation(entry));
  if (entry.clockGhz > 0) std::printf("; clock %.2f GHz", entry.clockGhz);
  std::printf("\n");
}

constexpr char modelled[] = "model:";

/// On a GPU that need not be there: nothing is measured, nothing is kept.
int rankAll(const Options &options) {
  if (options.list || options.explain || !options.importFrom.empty() || !options.exportTo.empty())
    throw std::runtime_error(
        "a modelled GPU keeps nothing: --list, --explain, --import and --export are of measured schedules");
  if (options.variants.empty())
    throw std::runtime_error("expected variants to rank schedules of; `weft variants` lists the library");
  const std::vector<std::string> shapes =
      options.shapes.empty() ? std::vector<std::string>{"1,8,2048,64"} : options.shapes;
  for (const std::string &variant : options.variants)
    for (const std::string &shape : shapes)
      for (const std::string &type : options.types)
        for (bool backward : {false, true})
          if (options.direction != (backward ? "forward" : "backward"))
            printRanking(variant, backward, type, options.device.substr(std::size(modelled) - 1),
                         ops::parseShape(shape), options.span);
  return 0;
}

int run(const Options &options) {
  catchInterrupts();
  if (const int threads = environment::threads(); threads > 0) torch::set_num_threads(threads);
  if (options.device.starts_with(modelled)) return rankAll(options);
  const Device device = parseDevice(options.device);
  const torch::Device place = ops::useDevice(options.device);
  const ScheduleCache cache(device);
  if (!options.importFrom.empty()) {
    demandFile(options.importFrom);
    std::printf("%zu entries added from %s\n", cache.merge(options.importFrom), options.importFrom.c_str());
    return 0;
  }
  if (!options.exportTo.empty()) {
    demandReplaceable(options.exportTo);
    cache.exportTo(options.exportTo);
    std::printf("%zu entries written to %s\n", cache.entries().size(), options.exportTo.c_str());
    return 0;
  }
  std::vector<TuningEntry> entries = cache.entries();
  if (!options.variants.empty() && (options.list || options.explain)) {
    std::vector<std::string> names;
    for (const std::string &variant : options.variants) names.push_back(findVariant(variant)->name());
    std::erase_if(entries, [&](const TuningEntry &entry) {
      return std::find(names.begin(), names.end(), entry.key.variant) == names.end();
    });
  }
  if (options.list) {
    printList(cache, entries, targetOf(device));
    return 0;
  }
  if (options.explain) {
    if (entries.empty())
      throw std::runtime_error("nothing tuned yet for these variants on this device; weft tune --list shows what is");
    for (const TuningEntry &entry : entries) printExplanation(entry, targetOf(device));
    return 0;
  }
  if (options.variants.empty())
    throw std::runtime_error(
        "expected variants to tune, or --list, --explain, --export, --import; `weft variants` lists the library");

  std::vector<TuningJob> jobs;
  const std::vector<std::string> shapes =
      options.shapes.empty() ? std::vector<std::string>{"1,8,2048,64"} : options.shapes;
  torch::manual_seed(0);
  for (const std::string &variant : options.variants)
    for (const std::string &shapeText : shapes)
      for (const std::string &type : options.types) {
        const ops::SampleShape shape = ops::parseShape(shapeText);
        for (bool backward : {false, true}) {
          if (options.direction == (backward ? "forward" : "backward")) continue;
          jobs.push_back({variant, backward, shape.text(), [=, &options] {
                            auto inputs = ops::sampleInputs(*findVariant(variant), shape, ops::scalarType(type), place,
                                                            options.span);
                            return autotune::Problem{variant, inputs.names, inputs.tensors, backward, shape.text()};
                          }});
        }
      }
  autotune::TuneOptions tuning;
  tuning.budget = parseSeconds(options.budget);
  tuning.flush = options.flush;
  tuning.again = options.again;
  return tuneAll(jobs, tuning, targetOf(device));
}

}  // namespace

void addTune(CLI::App &app, Action &action) {
  auto options = std::make_shared<Options>();
  CLI::App *command = app.add_subcommand("tune", "Find the fastest schedules on this device and keep them");
  command->add_option("variants", options->variants, "Library variants or files");
  command->add_option("--shapes", options->shapes, "B,H,T,D, several apart by spaces (default 1,8,2048,64)");
  command->add_option("--dtype", options->types, "f32, bf16, f16")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}))
      ->capture_default_str();
  command->add_option("--direction", options->direction, "forward, backward or both")
      ->check(CLI::IsMember({"forward", "backward", "both"}))
      ->capture_default_str();
  command->add_option("--span", options->span, "Reach of spans and windows in tokens (default: half of T)")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 30));
  command->add_option("--budget", options->budget, "Time for all of it: 60s, 5m")->capture_default_str();
  command
      ->add_option("--device", options->device,
                   "cpu, cuda or cuda:N; model:h200: predicted for a GPU that need not be there")
      ->envname("WEFT_DEVICE")
      ->capture_default_str();
  command->add_flag("--flush-l2", options->flush, "GPU: measure with a cold L2 cache");
  command->add_flag("--again", options->again, "Measure anew what is tuned already");
  command->add_flag("--list", options->list, "What is tuned");
  command->add_flag("--explain", options->explain, "What was tried, what the winner gained, how far the model was off");
  command->add_option("--export", options->exportTo, "Write this device's results to a file");
  command->add_option("--import", options->importFrom, "Add the results of a file, of the same device");
  command->callback([&action, options] { action = [options] { return run(*options); }; });
}

}  // namespace weft::cli
