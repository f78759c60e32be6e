// Training: AdamW, warm-up and cosine, clipping, checkpoints, metrics.
#pragma once

#include <string>

#include "models/config.h"
#include "models/data.h"

namespace weft {

struct TrainOptions {
  Config config;
  std::string directory;  ///< checkpoint.pt and metrics.jsonl go here
  bool resume = false;
  torch::Device device = torch::kCPU;
  double tuneSeconds = 0;  ///< budget for tuning the model's attention before step 1; 0: use what is known
};

/// Trains to config.train.steps. Returns 0 when done and interruptCode() after a signal (state saved).
/// Throws std::runtime_error with what is wrong, e.g. where a loss was not finite or another process trains in the
/// directory.
int train(const TrainOptions &options, const TextData &data);

}  // namespace weft
