// Everything a run needs to go on, in one file that is replaced whole or not at all.
#pragma once

#include <string>

#include "models/config.h"
#include "models/gpt.h"

namespace weft {

struct Checkpoint {
  Config config;
  int64_t step = 0;
  Gpt model{nullptr};
};

/// Writes directory/checkpoint.pt. Throws std::runtime_error (disk full, not writable); the file
/// that was there before stays.
void saveCheckpoint(const std::string &directory, const Config &config, int64_t step, Gpt &model,
                    torch::optim::Optimizer &optimizer);
/// Throws std::runtime_error where there is none or it is damaged.
Checkpoint loadCheckpoint(const std::string &directory, torch::Device device = torch::kCPU);
/// Also the optimizer's state, made for the parameters of `checkpoint.model`.
void loadOptimizer(const std::string &directory, torch::optim::Optimizer &optimizer, torch::Device device = torch::kCPU);

}  // namespace weft
