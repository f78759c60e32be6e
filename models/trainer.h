// Training: an optimizer and its schedule, precision, clipping, checkpoints, metrics.
#pragma once

#include <functional>
#include <string>

#include "models/config.h"
#include "models/data.h"
#include "models/gpt.h"

namespace weft {

struct TrainOptions {
  Config config;
  std::string directory;  ///< checkpoint.pt and metrics.jsonl go here
  bool resume = false;
  torch::Device device = torch::kCPU;
  /// Called, where given, with the model and a batch of tokens [batch, context] before the first step, to tune for
  /// instance. Anything but 0 ends the training with that code.
  std::function<int(Gpt &model, const torch::Tensor &tokens)> beforeFirstStep;
};

/// Trains to config.train.steps. Returns 0 when done and interruptCode() after a signal (state saved).
/// Throws std::runtime_error with what is wrong, e.g. where a loss was not finite or another process trains in the
/// directory.
int train(const TrainOptions &options, const TextData &data);

}  // namespace weft
