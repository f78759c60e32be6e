// Reads source files: regular ones of a size that can be a source, and nothing that blocks or never ends.
#pragma once

#include <sys/stat.h>

#include <optional>
#include <string>

namespace weft {

/// Says whether a file may have changed: where two of them are equal and `settled`, it has not.
struct FileState {
  dev_t device = 0;
  ino_t node = 0;
  off_t size = 0;
  timespec modified{}, changed{};
  /// False for a file changed so shortly before it was read that another change could carry the same times.
  bool settled = false;

  bool sameFile(const FileState &other) const {
    auto same = [](const timespec &x, const timespec &y) { return x.tv_sec == y.tv_sec && x.tv_nsec == y.tv_nsec; };
    return device == other.device && node == other.node && size == other.size && same(modified, other.modified) &&
           same(changed, other.changed);
  }
};

/// Nothing where there is no such file. A system call, without opening the file.
std::optional<FileState> stateOf(const std::string &path);

/// The whole text and the state it was read in. Throws std::invalid_argument, which says why, for what cannot be read,
/// for directories, pipes and devices, and for files of more than 1 MiB.
std::string readSource(const std::string &path, FileState &state);

}  // namespace weft
