#include "models/launch.h"

#include <charconv>
#include <cstdlib>
#include <stdexcept>

namespace weft {

/// These are no settings of Weft's (runtime/environment.h) but what one program says to those it starts.
static std::string launcher(const std::string &variable) {
  const char *value = std::getenv(variable.c_str());
  return value ? value : "";
}

static int64_t number(const std::string &variable, int64_t least, int64_t most) {
  const std::string text = launcher(variable);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most)
    throw std::runtime_error("WORLD_SIZE=" + launcher("WORLD_SIZE") + ": expected " + variable + " from " +
                             std::to_string(least) + " to " + std::to_string(most) + ", got '" + text +
                             "'; torchrun sets it, and without WORLD_SIZE a process is alone");
  return value;
}

static int64_t number(const std::string &variable, int64_t least, int64_t most, int64_t otherwise) {
  return launcher(variable).empty() ? otherwise : number(variable, least, most);
}

Launch readLaunch() {
  Launch launch;
  if (launcher("WORLD_SIZE").empty()) return launch;
  launch.size = number("WORLD_SIZE", 1, 1 << 20);
  launch.restarts = number("TORCHELASTIC_RESTART_COUNT", 0, INT32_MAX, 0);
  if (launch.size == 1) return launch;
  launch.rank = number("RANK", 0, launch.size - 1);
  launch.localSize = number("LOCAL_WORLD_SIZE", 1, launch.size, 1);
  launch.localRank = number("LOCAL_RANK", 0, launch.localSize - 1, 0);
  launch.address = launcher("MASTER_ADDR");
  if (launch.address.empty()) throw std::runtime_error("expected MASTER_ADDR, which torchrun sets beside WORLD_SIZE");
  launch.port = static_cast<uint16_t>(number("MASTER_PORT", 1, UINT16_MAX));
  launch.agentStore = launcher("TORCHELASTIC_USE_AGENT_STORE") == "True";
  return launch;
}

std::string rankPrefix() {
  const std::string size = launcher("WORLD_SIZE");
  return size.empty() || size == "1" ? "" : "rank " + launcher("RANK") + ": ";
}

}  // namespace weft
