// Training: an optimizer and its schedule, precision, clipping, checkpoints, metrics.
#pragma once

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

#include "models/config.h"
#include "models/data.h"
#include "models/gpt.h"
#include "models/processes.h"

namespace weft {

struct TrainOptions {
  Config config;
  std::string directory;  ///< checkpoints, metrics.jsonl and events go here
  bool resume = false;
  torch::Device device = torch::kCPU;
  /// They share the steps; rank 0 alone writes. After a restart by torchrun they resume by themselves.
  std::shared_ptr<Processes> processes = std::make_shared<Processes>();
  /// Called, where given, with the model and a batch of tokens [batch, context] before the first step, to tune for
  /// instance. Anything but 0 ends the training with that code.
  std::function<int(Gpt &model, const torch::Tensor &tokens)> beforeFirstStep;
  std::string
      init;  ///< a checkpoint, or a file of safetensors, whose weights a new run begins with; empty: random ones
};

/// A loss or a gradient was not finite.
struct Diverged : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Trains to config.train.steps. Returns 0 when done and interruptCode() after a signal (state saved).
/// Throws Diverged, or std::runtime_error with what else is wrong, e.g. where another process trains in the directory.
int train(const TrainOptions &options, const TextData &data);

}  // namespace weft
