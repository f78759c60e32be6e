// What a run writes and prints: metrics, events, checkpoints, progress. The first of its processes has one.
#pragma once

#include <optional>

#include "models/event_file.h"
#include "models/keeper.h"
#include "models/metrics.h"
#include "models/training.h"

namespace weft {

class Journal {
 public:
  /// Goes on with the files of `directory` from where `training` is, and prints what is trained.
  Journal(const std::string &directory, const Config &config, Training &training, const TextData &data,
          const Processes &processes);

  /// The clock of steps starts.
  void start() { progress.start(training.step); }
  void firstStepDone() { progress.firstDone(); }
  /// Figures of the steps so far, the last of which was `step`.
  ProgressFigures measure(const StepFigures &step) { return progress.measure(training.step, step.tokens); }
  /// Puts them into metrics and events and onto the terminal; the clock starts anew. Throws std::runtime_error where
  /// they cannot be written, with the steps saved.
  void log(const StepFigures &step, const ProgressFigures &figures);
  /// Of the newest step of a run that goes on, whose validation had been cut short: its entry is written once more,
  /// with the bits per character.
  void logValidation(double bpc);
  /// Saves what is due after a step; `validated`: bits per character, where that was measured after it.
  void stepDone(std::optional<double> validated);
  /// Saves checkpoint.pt, unless it is of this step already.
  void save() { keeper.save(training.step); }

 private:
  std::string directory;
  const Config &config;
  Training &training;
  MetricsFile metrics;
  Progress progress;
  Keeper keeper;
  EventFile events;
  bool figuresLost = false;  ///< they could not be written

  void write(const std::string &path, std::optional<double> bpc);
};

}  // namespace weft
