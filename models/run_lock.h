// One trainer a folder.
#pragma once

#include <string>

namespace weft {

/// Holds `directory` for training while it lives: by a lock on a file in it, which ends with the process, however that
/// ends.
class RunLock {
 public:
  /// Throws std::runtime_error where another process holds it, or nothing can be written there.
  explicit RunLock(const std::string &directory);
  ~RunLock();
  RunLock(const RunLock &) = delete;
  RunLock &operator=(const RunLock &) = delete;

 private:
  int file;
};

}  // namespace weft
