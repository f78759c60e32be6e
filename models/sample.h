// Text from a model, byte by byte.
#pragma once

#include <functional>
#include <string>

#include "models/gpt.h"

namespace weft {

/// Calls `emit` with each new byte. Temperature 0 takes the most likely one. Stops when interrupted. With `cache`, keys
/// and values of earlier bytes are kept (where the variant allows it), and past the model's context the text goes on
/// from its last half; without, all of the last `context` bytes are computed for each new one.
void sample(Gpt &model, const std::string &prompt, int64_t length, double temperature, uint64_t seed, bool cache,
            const std::function<void(char)> &emit);

}  // namespace weft
