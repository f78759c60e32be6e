// Text from a model, byte by byte.
#pragma once

#include <functional>
#include <string>

#include "models/gpt.h"

namespace weft {

/// Calls `emit` with each new byte. Temperature 0 takes the most likely one. Stops when interrupted.
void sample(Gpt &model, const std::string &prompt, int64_t length, double temperature, uint64_t seed,
            const std::function<void(char)> &emit);

}  // namespace weft
