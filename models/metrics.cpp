#include "models/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <stdexcept>

#include "models/user_files.h"

namespace weft {

using nlohmann::json;

/// An object with a step, whose sums go on where it ends.
static bool isEntry(const json &entry) {
  if (!entry.is_object() || !entry.contains("step") || !entry["step"].is_number_integer()) return false;
  for (const char *sum : {"seconds", "flops"})
    if (entry.contains(sum) && !entry[sum].is_number()) return false;
  return true;
}

MetricsFile::MetricsFile(const std::string &own, int64_t step) : path(own) {
  if (std::filesystem::exists(path)) {
    const std::string before = readWhole(path);
    std::string kept, line;
    int64_t dropped = 0;
    for (std::istringstream in(before); std::getline(in, line);) {
      const json entry = json::parse(line, nullptr, false);
      if (!isEntry(entry)) {
        ++dropped;
      } else if (entry["step"] <= step) {
        kept += line + "\n";
        newest = entry;
      }
    }
    if (dropped > 0)
      std::fprintf(stderr, "%s: left out %lld lines that are no entries\n", path.c_str(),
                   static_cast<long long>(dropped));
    if (kept != before) writeFile(path, kept);
  }
  file = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file < 0) throw std::runtime_error("cannot write " + path + ": " + std::strerror(errno));
}

MetricsFile::~MetricsFile() {
  if (file >= 0) close(file);
}

void MetricsFile::append(const json &entry) {
  writeAll(file, entry.dump() + "\n", path);
  newest = entry;
}

void MetricsFile::sync() {
  if (fsync(file) != 0) throw std::runtime_error("cannot write " + path + ": " + std::strerror(errno));
}

}  // namespace weft
