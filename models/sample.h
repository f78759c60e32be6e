// Text from a model, byte by byte.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "models/gpt.h"

namespace weft {

struct SampleOptions {
  int64_t length = 400;           ///< bytes
  double temperature = 0.8;       ///< 0 takes the most likely byte
  int64_t topK = 256;             ///< out of the most likely ones only, 1 to 256
  double topP = 1;                ///< out of the most likely ones that have this probability together, above 0 to 1
  std::vector<std::string> stop;  ///< the text ends before the first of these
  uint64_t seed = 1;
  bool cache = true;
};

/// Calls `emit` with each new byte that is known to belong to the text: what may be the beginning of a text of `stop`
/// is held back. Stops when interrupted. With `cache`, keys and values of earlier bytes are kept (where the variant
/// allows it), and past the model's context the text goes on from its last half; without, all of the last `context`
/// bytes are computed for each new one. Throws std::invalid_argument for options outside of their ranges.
void sample(Gpt &model, const std::string &prompt, const SampleOptions &options, const std::function<void(char)> &emit);

}  // namespace weft
