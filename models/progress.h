// How a training run goes: its speed, its utilisation and what its heads have learned, measured from one logged step to
// the next.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
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
  std::optional<double> validation;      ///< bits per character, where it was validated
  double seconds = 0, flops = 0;         ///< of all steps of the run, earlier processes' among them
  /// One list a layer for each learned name, and for the kept tiles.
  std::map<std::string, std::vector<std::vector<double>>> perHead;
};

class Progress {
 public:
  /// `last`: the newest entry of the run's metrics; an empty object where there is none. `processes` share the steps,
  /// each with the peak that is measured in this one.
  Progress(const Config &config, Gpt &model, const nlohmann::json &last, int64_t processes = 1);

  const Roof &peak() const { return roof; }
  /// The clock of the steps after `step` starts.
  void start(int64_t step);
  /// The first step of a process has been taken. It compiles kernels, or tunes them: its time counts, but no speed is
  /// told by it where there are others.
  void firstDone();
  /// Of the steps up to `step`, the last of which read `tokens`.
  ProgressFigures measure(int64_t step, const torch::Tensor &tokens);
  /// On stderr; on a terminal one line that is written over, no longer than the terminal is wide. Its speed is of the
  /// last few measures.
  void show(const StepFigures &step, const ProgressFigures &figures);

  /// The clock stands while this lives: for what is no training.
  class Pause {
   public:
    explicit Pause(Progress &progress) : progress(progress) {}
    ~Pause() { progress.lastTime += std::chrono::steady_clock::now() - begin; }
    Pause(const Pause &) = delete;
    Pause &operator=(const Pause &) = delete;

   private:
    Progress &progress;
    std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
  };

 private:
  const Config &config;
  Gpt model;
  double processes;
  Device device;
  ElementType type;  ///< of the products
  Roof roof;
  double secondsSpent, flopsSpent;
  std::chrono::steady_clock::time_point lastTime{};
  int64_t lastStep = 0;
  double slowSeconds = 0;  ///< of the first step, until it is measured
  /// Steps and their seconds, of the last few measures.
  std::deque<std::pair<int64_t, double>> recent;
  bool firstAlone = false;           ///< `recent` is the first step's alone
  std::optional<double> validation;  ///< the newest
};

/// An entry of metrics.jsonl.
nlohmann::json metricsEntry(const StepFigures &step, const ProgressFigures &progress);
/// What of it TensorBoard draws, by the same names.
std::vector<std::pair<std::string, double>> scalarsOf(const StepFigures &step, const ProgressFigures &progress);

}  // namespace weft
