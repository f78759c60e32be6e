// Training runs that differ in some settings, one after another, and what came of them.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "models/data.h"
#include "models/trainer.h"

namespace weft {

struct SweepOptions {
  std::string config, origin;         ///< JSON text, and where it is from
  std::vector<std::string> settings;  ///< key=value, of all runs
  std::vector<std::string> varied;    ///< key=value,value,...: every combination is a run
  std::string directory;              ///< a folder of it for each run, and sweep.json
  torch::Device device = torch::kCPU;
};

/// One combination.
struct SweepRun {
  std::string name;                                         ///< of its folder: "lr=1e-3,dropout=0"
  std::vector<std::pair<std::string, std::string>> varied;  ///< key and value, as they were given
  Config config;
};

/// All combinations, the last key's values the fastest. Throws std::invalid_argument for a mistake in any of them,
/// before any is trained.
std::vector<SweepRun> sweepRuns(const SweepOptions &options);

/// Trains those that are not done yet; gives all that are, the best by validation first:
///   {"complete": bool, "data": text, "runs": [{"name", "settings", "val_bpc", "train_bpc", "seconds", "step"} ...]}
/// with an "error" in place of the figures of a run that diverged. sweep.json holds the same at any time. Ends early
/// where interrupted. Throws std::runtime_error where a folder holds a run of other settings, and as train() does but
/// for Diverged.
nlohmann::json sweep(const SweepOptions &options, const TextData &data);

/// As lines for people.
std::string sweepTable(const nlohmann::json &results);

}  // namespace weft
