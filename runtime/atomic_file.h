// Files that other processes read while they are written.
#pragma once

#include <filesystem>
#include <string>

namespace weft {

/// The whole of a file; false where it cannot be opened.
bool readFile(const std::filesystem::path &path, std::string &text);

/// Atomic: a reader sees the old file, or the whole new one. Makes missing directories. Gives the empty string, or
/// why it failed, with the old file untouched.
std::string replaceFile(const std::filesystem::path &path, const std::string &text);

/// Holds an exclusive lock between processes while it lives. It lies in a file of its own and ends with the process,
/// however that ends.
class FileLock {
 public:
  /// Waits for it. Where there is no place for the file, holds nothing.
  explicit FileLock(const std::filesystem::path &path);
  /// Without waiting: held() says whether it was free.
  FileLock(const std::filesystem::path &path, std::nullptr_t);
  ~FileLock();
  FileLock(const FileLock &) = delete;
  FileLock &operator=(const FileLock &) = delete;
  bool held() const { return locked; }

 private:
  int file = -1;
  bool locked = false;
};

/// FNV-1a, 64 bits, as 16 hexadecimal digits: names files and detects damage, nothing more.
std::string hashText(const std::string &text);

}  // namespace weft
