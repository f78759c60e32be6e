// Everything a run needs to go on, in one file that is replaced whole or not at all, and that ends with a digest of
// itself.
#pragma once

#include <optional>
#include <string>

#include <torch/serialize/archive.h>

#include "models/config.h"
#include "models/gpt.h"
#include "models/optimizer.h"
#include "models/precision.h"

namespace weft {

struct Checkpoint {
  Config config;
  int64_t step = 0;
  std::optional<double> bpc;  ///< of its validation, where there was one at its step
  Gpt model{nullptr};
  torch::serialize::InputArchive optimizer;  ///< for loadOptimizer
  torch::Tensor lossScale;                   ///< for LossScale::restore
};

/// Where the newest checkpoint of a run lies.
std::string checkpointIn(const std::string &directory);
/// Writes the file `path`: an archive of torch, then a line with its SHA-256. Throws std::runtime_error (disk full, not
/// writable); the file that was there before stays.
void saveCheckpoint(const std::string &path, const Config &config, int64_t step, Gpt &model, const Optimizer &optimizer,
                    const LossScale &scale, std::optional<double> bpc = {});
/// `place`: a run's folder, whose newest is meant, or the file of a checkpoint, or one of exportModel (which has no
/// optimizer). Throws std::runtime_error where there is none, where any bit of it has changed since it was written, and
/// where its tensors are not those of its config.
Checkpoint loadCheckpoint(const std::string &place, torch::Device device = torch::kCPU);
/// The two halves of that: what is in the file, and what is in its bytes; errors name `place`.
std::string readCheckpoint(const std::string &place);
Checkpoint parseCheckpoint(const std::string &bytes, const std::string &place, torch::Device device);
/// The state of an optimizer made for the parameters of `checkpoint.model`. Throws as Optimizer::load does.
void loadOptimizer(Checkpoint &checkpoint, Optimizer &optimizer);
/// Removes what killed processes left of files they were writing to `directory`; what is younger than a minute may be
/// another's at work.
void removeLeftovers(const std::string &directory);

}  // namespace weft
