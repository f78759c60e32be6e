#include "runtime/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

namespace weft {

namespace fs = std::filesystem;

bool readFile(const fs::path &path, std::string &text) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) return false;
  text.assign(std::istreambuf_iterator<char>(stream), {});
  return true;
}

std::string replaceFile(const fs::path &path, const std::string &text) {
  std::error_code code;
  fs::create_directories(path.parent_path(), code);
  const fs::path temporary = path.string() + "." + std::to_string(getpid()) + ".tmp";
  const int file = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  bool ok = file >= 0;
  size_t written = 0;
  while (ok && written < text.size()) {
    const ssize_t part = write(file, text.data() + written, text.size() - written);
    ok = part > 0;
    if (ok) written += static_cast<size_t>(part);
  }
  if (file >= 0) ok = close(file) == 0 && ok;
  if (!ok) code = std::error_code(errno, std::generic_category());
  else fs::rename(temporary, path, code);
  if (!code) return {};
  const std::string reason = code.message();
  fs::remove(temporary, code);
  return reason;
}

FileLock::FileLock(const fs::path &path) : FileLock(path, nullptr) {
  while (file >= 0 && !locked) {
    locked = flock(file, LOCK_EX) == 0;
    if (!locked && errno != EINTR) break;
  }
}
FileLock::FileLock(const fs::path &path, std::nullptr_t) {
  std::error_code code;
  fs::create_directories(path.parent_path(), code);
  file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  locked = file >= 0 && flock(file, LOCK_EX | LOCK_NB) == 0;
}
FileLock::~FileLock() {
  if (file >= 0) close(file);
}

std::string hashText(const std::string &text) {
  uint64_t hash = 1469598103934665603ull;
  for (unsigned char c : text) hash = (hash ^ c) * 1099511628211ull;
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(hash));
  return digits;
}

}  // namespace weft
