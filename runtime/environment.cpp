#include "runtime/environment.h"

#include <algorithm>
#include <cstdlib>

namespace weft::environment {

static std::string get(const char *name, std::string otherwise = {}) {
  const char *value = std::getenv(name);
  return value && *value ? std::string(value) : otherwise;
}

std::string cacheDirectory() {
  if (std::string own = get("WEFT_CACHE_DIR"); !own.empty()) return own;
  if (std::string base = get("XDG_CACHE_HOME"); !base.empty()) return base + "/weft";
  return get("HOME", "/tmp") + "/.cache/weft";
}
std::string dumpDirectory() { return get("WEFT_DUMP"); }
std::string logLevel() { return get("WEFT_LOG", "warn"); }
int threads() { return std::atoi(get("WEFT_THREADS", "0").c_str()); }
std::string cpu() { return get("WEFT_CPU", "host"); }
std::string device() { return get("WEFT_DEVICE", "cpu"); }
bool synchronous() { return !get("WEFT_CHECK").empty(); }
uint64_t emulatorSeed() { return std::strtoull(get("WEFT_EMULATOR_SEED", "1").c_str(), nullptr, 10); }
int64_t emulatorSteps() { return std::max(0ll, std::strtoll(get("WEFT_EMULATOR_STEPS", "0").c_str(), nullptr, 10)); }
bool tune() {
  const std::string value = get("WEFT_TUNE");
  return !value.empty() && value != "0";
}
std::string python() { return get("WEFT_PYTHON"); }
std::string path() { return get("PATH"); }
std::string ptxas() { return get("WEFT_PTXAS"); }
std::string data() { return get("WEFT_DATA"); }

}  // namespace weft::environment
