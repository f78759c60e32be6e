// Locks between processes, in files of a private folder. They end with the process that holds them, however that ends.
#pragma once

#include <chrono>
#include <string>

#include "runtime/private_folder.h"

namespace weft {

/// Holds an exclusive lock while it lives, in a file of its own.
class FileLock {
 public:
  enum class Wait { No, Yes };
  FileLock(const PrivateFolder &folder, const std::string &name, Wait wait);
  ~FileLock();
  FileLock(const FileLock &) = delete;
  FileLock &operator=(const FileLock &) = delete;
  bool held() const { return locked; }
  /// False where there is no place for its file, and no use in waiting.
  bool possible() const { return file >= 0; }

 private:
  int file = -1;
  bool locked = false;
};

/// A turn at what `key` names, one process after the other: a courtesy, that nothing may rely on. The turns of all keys
/// are bytes of one file. Waits up to `patience` (a holder may be stopped), and not at all where there is no place for
/// the file.
class Turn {
 public:
  /// `key`: hexadecimal digits.
  Turn(const PrivateFolder &folder, const std::string &name, const std::string &key,
       std::chrono::milliseconds patience);
  ~Turn();
  Turn(const Turn &) = delete;
  Turn &operator=(const Turn &) = delete;
  /// True where another process had its turn meanwhile.
  bool waited() const { return late; }

 private:
  int file = -1;
  bool late = false;
};

}  // namespace weft
