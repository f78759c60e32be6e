// Finds the fastest schedule of a call on the device it runs on, and keeps it in the schedule cache.
//
// The default schedule and those the model ranks first are measured in turns (each round in a random order, so that a
// slow clock hits all alike): all of them a few times, the best third more often, the last few until the median is
// known to 2 %. Every sample is kept in the cache as soon as it is taken: a search that was stopped, or killed, goes on
// where it was.
#pragma once

#include <functional>

#include "autotune/trial.h"
#include "runtime/schedule_cache.h"

namespace weft::autotune {

struct Progress {
  std::string stage;           ///< "waiting", "predicting", "compiling", "measuring", "confirming"
  size_t done = 0, total = 0;  ///< of the stage
  Schedule best;
  double bestSeconds = 0, defaultSeconds = 0;  ///< 0: not measured yet
  double secondsLeft = 0;                      ///< of the budget
};

struct TuneOptions {
  double budget = 60;      ///< seconds
  size_t candidates = 24;  ///< to measure at most, the default among them
  bool flush = false;      ///< GPU: measure with a cold L2 cache
  bool again = false;      ///< forget what the cache has
  uint64_t seed = 0;       ///< of the order of measuring
  std::function<void(const Progress &)> progress;
  std::function<bool()> stop;  ///< asked between measurements
};

struct Outcome {
  enum class End { Known, Complete, BudgetSpent, Stopped } end = End::Complete;
  TuningEntry entry;    ///< also in the cache
  size_t measured = 0;  ///< samples taken by this call
};

/// Throws std::runtime_error where nothing can be measured, c10::Error where the call is wrong.
Outcome tune(const Problem &problem, const TuneOptions &options);

/// Rank correlation (Spearman's rho) of the model's times with the measured ones; 0 of fewer than three points.
double rankCorrelation(const TuningEntry &entry);

}  // namespace weft::autotune
