// weft eval: its options, and its part that measures what a selection misses.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/checkpoint.h"
#include "models/data.h"
#include "models/processes.h"

namespace weft::cli {

struct EvalOptions {
  std::string checkpoint, data, split = "val", picture, device, config;
  std::vector<std::string> settings;  ///< of another attention than the checkpoint's
  uint64_t dataLimit;
  int64_t stride = 0, limit = 0;
  bool measuresMass = false;
  std::string mass;  ///< the variant whose selection is measured; empty: the model's own
  std::optional<double> target;
  std::string dial;
};

/// `weft eval --mass`: measures the mass that `selecting` keeps (the checkpoint's model with its attention, see
/// withWeightsOf), prints it and writes it beside the checkpoint, in `folder`; with a target, solves for a dial and
/// writes the config. Gives the exit code.
int runMass(const EvalOptions &options, const Checkpoint &checkpoint, const Gpt &selecting,
            const std::filesystem::path &folder, const TextData &data, const torch::Tensor &text,
            const std::shared_ptr<Processes> &processes);

/// The file name of a checkpoint given as such or as a run's folder.
std::string checkpointName(const std::string &place);

}  // namespace weft::cli
