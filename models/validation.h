// Bits per character of the validation split while a model trains.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "models/config.h"
#include "models/data.h"
#include "models/gpt.h"
#include "models/processes.h"

namespace weft {

class Validation {
 public:
  /// Throws std::runtime_error where validation is asked for and there are too few bytes for it.
  Validation(const Config &config, const TextData &data);

  /// After each train.validate_every steps, and after the last one.
  bool due(int64_t step) const;
  /// All processes call it. Bits per character of the first train.validate_bytes of the split, the same ones each time.
  /// Draws no random number and leaves the model training. None where a signal came before its end.
  std::optional<double> measure(Gpt &model, const std::shared_ptr<Processes> &processes) const;

 private:
  int64_t every, bytes, steps, stride;
  torch::Tensor text;
};

}  // namespace weft
