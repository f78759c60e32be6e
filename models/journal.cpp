#include "models/journal.h"

#include <cstdio>

#include <torch/utils.h>

#include "models/checkpoint.h"

namespace weft {

Journal::Journal(const std::string &directory, const Config &config, Training &training, const TextData &data,
                 const Processes &processes)
    : directory(directory),
      config(config),
      training(training),
      metrics(directory + "/metrics.jsonl", training.step),
      progress(config, training.model, metrics.last(), processes.size()),
      keeper(directory, config.train, training.fromCheckpoint ? std::optional(training.step) : std::nullopt,
             training.bpc, [this](const std::string &path, std::optional<double> bpc) { write(path, bpc); }),
      events(directory, training.step) {
  std::fprintf(stderr, "%s: %lld parameters, %s\npeak: %.1f %s GFLOP/s, %s\n", config.model.attention.c_str(),
               static_cast<long long>(training.model->parameterCount()), data.description.c_str(),
               1e-9 * progress.peak().rate, config.train.precision.c_str(), progress.peak().of.c_str());
  if (processes.alone()) return;
  auto some = [](int64_t count, const char *what) {
    return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
  };
  const int64_t sharing = config.train.contextParallel;
  const std::string texts = some(processes.part(config.train.batch, sharing).count, "text"),
                    threads = some(torch::get_num_threads(), "thread");
  const auto count = static_cast<long long>(processes.size());
  if (sharing == 1)
    std::fprintf(stderr, "%lld processes, each with %s and %s\n", count, texts.c_str(), threads.c_str());
  else
    std::fprintf(stderr,
                 "%lld processes, in groups of %lld that share each text; each group with %s, each process with %s\n",
                 count, static_cast<long long>(sharing), texts.c_str(), threads.c_str());
}

void Journal::log(const StepFigures &step, const ProgressFigures &figures) {
  try {
    metrics.append(metricsEntry(step, figures));
    events.append(training.step, scalarsOf(step, figures));
  } catch (const std::exception &) {
    // The steps are not lost with their figures.
    figuresLost = true;
    keeper.save(training.step);
    throw;
  }
  progress.show(step, figures);
  progress.start(training.step);
}

void Journal::logValidation(double bpc) {
  nlohmann::json entry = metrics.last();
  if (entry.value("step", int64_t{-1}) == training.step) {
    entry["val_bpc"] = bpc;
    metrics.append(entry);
  }
  events.append(training.step, {{"val_bpc", bpc}});
  keeper.stepDone(training.step, bpc);
}

void Journal::stepDone(std::optional<double> validated) {
  const Progress::Pause pause(progress);
  keeper.stepDone(training.step, validated);
}

void Journal::write(const std::string &path, std::optional<double> bpc) {
  if (!figuresLost) metrics.sync();
  saveCheckpoint(path, config, training.step, training.model, *training.optimizer, training.scale, bpc);
}

}  // namespace weft
