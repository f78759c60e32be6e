#include "runtime/environment.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

namespace weft::environment {

static std::string get(const char *name, const std::string &otherwise = {}) {
  const char *value = std::getenv(name);
  return value && *value ? value : otherwise;
}

static bool isAbsolute(const std::string &path) { return path.rfind('/', 0) == 0; }

/// HOME, else what the system's list of users says. Empty where neither names one.
static std::string home() {
  if (std::string own = get("HOME"); isAbsolute(own)) return own;
  std::vector<char> text(1 << 14);
  passwd entry, *found = nullptr;
  if (getpwuid_r(geteuid(), &entry, text.data(), text.size(), &found) != 0 || !found || !found->pw_dir) return {};
  return isAbsolute(found->pw_dir) ? found->pw_dir : "";
}

std::string cacheDirectory() {
  if (std::string own = get("WEFT_CACHE_DIR"); !own.empty()) return own;
  // Relative ones are to be ignored (XDG Base Directory Specification).
  if (std::string base = get("XDG_CACHE_HOME"); isAbsolute(base)) return base + "/weft";
  // Never a place that all users share, such as /tmp.
  const std::string own = home();
  return own.empty() ? "" : own + "/.cache/weft";
}
std::string dumpDirectory() { return get("WEFT_DUMP"); }
std::string logLevel() { return get("WEFT_LOG", "warn"); }
int threads() { return std::atoi(get("WEFT_THREADS", "0").c_str()); }
std::string cpu() { return get("WEFT_CPU", "host"); }
std::string cpuEmulator() { return get("WEFT_CPU_EMULATOR"); }
std::string gpu() { return get("WEFT_GPU", "sm_80"); }
void setGpu(const std::string &code) { setenv("WEFT_GPU", code.c_str(), 1); }
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
std::string nvdisasm() { return get("WEFT_NVDISASM"); }
std::string data() { return get("WEFT_DATA"); }

}  // namespace weft::environment
