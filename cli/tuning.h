// Tunes a list of calls at the terminal: a line each, with a progress bar; Ctrl-C keeps what was measured.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autotune/tuner.h"
#include "models/gpt.h"

namespace weft::cli {

struct TuningJob {
  std::string variant;
  bool backward;
  std::string shape;
  std::function<autotune::Problem()> problem;  ///< makes the tensors, when its turn comes
};

/// Shares options.budget among the jobs: what one leaves, the next ones have. Gives the exit code: 0, or
/// interruptCode() after a signal.
int tuneAll(const std::vector<TuningJob> &jobs, autotune::TuneOptions options, const std::string &target);

/// Finds schedules for the calls that a training step on `tokens` [batch, context] will make, in `budget` seconds.
/// Gives the exit code, as tuneAll does.
int tuneModel(Gpt &model, const torch::Tensor &tokens, double budget);

/// "90", "60s", "5m", "1h". Throws std::runtime_error.
double parseSeconds(const std::string &text);

}  // namespace weft::cli
