#include "runtime/atomic_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fstream>
#include <mutex>
#include <set>
#include <tuple>

namespace weft {
namespace {

namespace fs = std::filesystem;

// Temporary files are .weft-<16 hexadecimal digits>.tmp, in the folder of the file they become.
constexpr char temporaryStart[] = ".weft-", temporaryEnd[] = ".tmp";
constexpr size_t temporaryDigits = 16;
/// A process that died left those older than this.
constexpr time_t staleSeconds = 6 * 60 * 60;

std::string temporaryName() {
  uint64_t number = 0;
  if (getrandom(&number, sizeof number, 0) != sizeof number) return {};
  char digits[temporaryDigits + 1];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(number));
  return std::string(temporaryStart) + digits + temporaryEnd;
}

bool isTemporary(std::string_view name) {
  const size_t start = std::strlen(temporaryStart), end = std::strlen(temporaryEnd);
  return name.size() == start + temporaryDigits + end && name.substr(0, start) == temporaryStart &&
         name.substr(start + temporaryDigits) == temporaryEnd &&
         name.find_first_not_of("0123456789abcdef", start) == start + temporaryDigits;
}

/// Once a process and folder: a look through the folder is too much for each write. A new folder may have the number of
/// one that was removed; where the file system knows when folders were made, that tells them apart.
void removeStaleTemporaries(int folder) {
  using Folder = std::tuple<uint32_t, uint32_t, uint64_t, int64_t, uint32_t>;
  static std::mutex mutex;
  static std::set<Folder> swept;
  struct statx own{};
  if (statx(folder, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &own) != 0) return;
  if (!(own.stx_mask & STATX_BTIME)) own.stx_btime = {};
  {
    std::lock_guard lock(mutex);
    const Folder key{own.stx_dev_major, own.stx_dev_minor, own.stx_ino, own.stx_btime.tv_sec, own.stx_btime.tv_nsec};
    if (!swept.insert(key).second) return;
  }
  const int again = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *entries = again < 0 ? nullptr : fdopendir(again);
  if (!entries) {
    if (again >= 0) close(again);
    return;
  }
  const time_t now = time(nullptr);
  while (const dirent *entry = readdir(entries)) {
    struct stat found;
    if (isTemporary(entry->d_name) && fstatat(folder, entry->d_name, &found, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISREG(found.st_mode) && now - found.st_mtime > staleSeconds)
      unlinkat(folder, entry->d_name, 0);
  }
  closedir(entries);
}

bool writeAll(int file, std::string_view text) {
  while (!text.empty()) {
    const ssize_t part = write(file, text.data(), text.size());
    if (part < 0 && errno == EINTR) continue;
    if (part <= 0) return false;
    text.remove_prefix(static_cast<size_t>(part));
  }
  return true;
}

bool flush(int file) {
  while (fsync(file) != 0)
    if (errno != EINTR) return false;
  return true;
}

/// Makes `path` where it is missing, each folder in one that is flushed.
std::string makeFolders(const fs::path &path) {
  std::error_code code;
  if (path.empty() || fs::is_directory(path, code)) return {};
  if (path.has_relative_path())
    if (std::string reason = makeFolders(path.parent_path()); !reason.empty()) return reason;
  if (mkdir(path.c_str(), 0777) != 0 && errno != EEXIST) return std::strerror(errno);
  const fs::path parent = path.parent_path().empty() ? "." : path.parent_path();
  if (const int folder = open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); folder >= 0) {
    flush(folder);  // one that cannot be flushed says so when its file is replaced
    close(folder);
  }
  return {};
}

}  // namespace

bool readFile(const fs::path &path, std::string &text) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) return false;
  text.assign(std::istreambuf_iterator<char>(stream), {});
  return true;
}

std::string replaceFile(const fs::path &path, std::string_view text) {
  const fs::path parent = path.parent_path();
  if (std::string reason = makeFolders(parent); !reason.empty()) return reason;
  const int folder = open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return std::strerror(errno);
  const std::string reason = replaceFileIn(folder, path.filename(), text, 0644);
  close(folder);
  return reason;
}

std::string replaceFileIn(int folder, const std::string &name, std::string_view text, unsigned mode) {
  removeStaleTemporaries(folder);
  std::string temporary;
  int file = -1;
  do {
    temporary = temporaryName();
    if (temporary.empty()) return std::strerror(errno);
    file = openat(folder, temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
  } while (file < 0 && errno == EEXIST);
  if (file < 0) return std::strerror(errno);
  // The text is on the disk before the name is: else a power cut could leave the name with nothing behind it.
  int error = writeAll(file, text) && flush(file) ? 0 : errno;
  if (close(file) != 0 && !error) error = errno;
  if (!error && renameat(folder, temporary.c_str(), folder, name.c_str()) != 0) error = errno;
  if (error) {
    unlinkat(folder, temporary.c_str(), 0);
    return std::strerror(error);
  }
  return flush(folder) ? "" : std::strerror(errno);
}

}  // namespace weft
