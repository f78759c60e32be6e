// The project's logger: stderr, level from WEFT_LOG.
#pragma once

#include <memory>

#include <spdlog/spdlog.h>

namespace weft {

spdlog::logger &log();

}  // namespace weft
