// metrics.jsonl: one JSON object a logged step.
#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

namespace weft {

class MetricsFile {
 public:
  /// Goes on with the file at `path` after `step`. Entries past it belong to steps that will be run again and are
  /// dropped, as are lines that are no entries (the last one of a killed run), with a warning; the file is replaced
  /// whole or not at all. Throws std::runtime_error where it cannot be written.
  MetricsFile(const std::string &path, int64_t step);
  ~MetricsFile();
  MetricsFile(const MetricsFile &) = delete;
  MetricsFile &operator=(const MetricsFile &) = delete;

  /// The newest entry; an empty object where there is none.
  const nlohmann::json &last() const { return newest; }
  /// Throws std::runtime_error (disk full).
  void append(const nlohmann::json &entry);
  /// All entries are on the disk when this returns: a checkpoint written afterwards is never ahead of them.
  void sync();

 private:
  std::string path;
  int file = -1;
  nlohmann::json newest = nlohmann::json::object();
};

}  // namespace weft
