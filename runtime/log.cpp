#include "runtime/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

#include "runtime/environment.h"

namespace weft {

spdlog::logger &log() {
  static std::shared_ptr<spdlog::logger> logger = [] {
    auto made = std::make_shared<spdlog::logger>("weft", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    made->set_pattern("weft: %l: %v");
    made->set_level(spdlog::level::from_str(environment::logLevel()));
    return made;
  }();
  return *logger;
}

}  // namespace weft
