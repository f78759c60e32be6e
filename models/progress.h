// How a training run goes: its speed, its utilisation and what its heads have learned, measured from one logged step to
// the next.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "models/config.h"
#include "models/gpt.h"
#include "runtime/roof.h"

namespace weft {

/// Of one step.
struct StepFigures {
  double loss = 0;  ///< nats a byte, mean over the step's batches
  double learningRate = 0;
  double gradientNorm = 0;  ///< before it was clipped; infinite where the step was left out
  double lossScale = 1;     ///< of the step's backward pass
  torch::Tensor tokens;     ///< of the step's last batch, [batch, context]
};

/// Of the steps since the last logged one, and of the whole run.
struct ProgressFigures {
  int64_t step = 0;
  double tokensPerSecond = 0;
  double utilisation = 0, peakRate = 0;  ///< share of a peak in FLOP/s
  double span = 0, kept = 0;             ///< means over heads: bytes, share of dense tiles
  double seconds = 0, flops = 0;         ///< of all steps of the run, earlier processes' among them
  /// One list a layer for each learned name, and for the kept tiles.
  std::map<std::string, std::vector<std::vector<double>>> perHead;
};

class Progress {
 public:
  /// `last`: the newest entry of the run's metrics; an empty object where there is none.
  Progress(const Config &config, Gpt &model, const nlohmann::json &last);

  const Roof &peak() const { return roof; }
  /// The clock of the steps after `step` starts.
  void start(int64_t step);
  /// Of the steps up to `step`, the last of which read `tokens`.
  ProgressFigures measure(int64_t step, const torch::Tensor &tokens);

 private:
  const Config &config;
  Gpt model;
  Device device;
  ElementType type;  ///< of the products
  Roof roof;
  double secondsSpent, flopsSpent;
  std::chrono::steady_clock::time_point lastTime{};
  int64_t lastStep = 0;
};

/// An entry of metrics.jsonl.
nlohmann::json metricsEntry(const StepFigures &step, const ProgressFigures &progress);
/// On stderr; on a terminal one line that is written over.
void printProgress(const StepFigures &step, const ProgressFigures &progress, int64_t steps);

}  // namespace weft
