// Bits per character of a whole split, with sliding context.
#pragma once

#include <memory>
#include <string>

#include "models/data.h"
#include "models/gpt.h"
#include "models/processes.h"

namespace weft {

struct Evaluation {
  double bpc = 0;
  int64_t bytes = 0;     ///< predicted bytes
  bool complete = true;  ///< false after a signal: the figure is of what was read
};

/// Each window of `context` bytes moves on by `stride`; of each only the last `stride` bytes count
/// (of the first, all). Stops early when interrupted. `limit` > 0 evaluates that many bytes only. With `show`, a
/// terminal is told how far it is. Of several `processes` all call it, share the windows, and have the result of all of
/// them.
Evaluation evaluate(Gpt &model, const torch::Tensor &text, int64_t stride, int64_t limit = 0, bool show = true,
                    const std::shared_ptr<Processes> &processes = std::make_shared<Processes>());

}  // namespace weft
