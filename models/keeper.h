// What is saved when: the newest checkpoint, those before it, and the best one by validation.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>

#include "models/config.h"

namespace weft {

/// checkpoint.pt is the newest; checkpoint-STEP.pt are the train.keep - 1 before it; best.pt is the one of the least
/// validated bits per character. Files that are the same checkpoint are one file of two names, where the file system
/// has such. A process that is killed at any moment leaves a whole checkpoint.pt.
class Keeper {
 public:
  /// Writes what is trained to the file `path`, whole or not at all; `bpc` is of its validation, where there was one.
  using Write = std::function<void(const std::string &path, std::optional<double> bpc)>;
  /// `saved`: the step of the checkpoint.pt that is there, and bits per character where it was validated; none where a
  /// run begins.
  Keeper(std::string directory, const TrainConfig &config, std::optional<int64_t> saved, std::optional<double> bpc,
         Write write);

  /// After each step: saves what is due.
  void stepDone(int64_t step, std::optional<double> bpc);
  /// Saves checkpoint.pt, unless it is of this step, and has its bits per character, already.
  void save(int64_t step, std::optional<double> bpc = {});

 private:
  using Clock = std::chrono::steady_clock;
  std::string directory;
  TrainConfig config;
  std::optional<int64_t> savedStep;
  std::optional<double> savedBpc;
  Clock::time_point savedAt = Clock::now();
  double best = std::numeric_limits<double>::infinity();
  Write write;

  std::string path(const std::string &name) const;
  bool due(int64_t step) const;
  void removeOld() const;
};

}  // namespace weft
