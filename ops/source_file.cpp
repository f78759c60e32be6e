#include "ops/source_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <stdexcept>

namespace weft {
namespace {

constexpr off_t largest = 1 << 20;
/// The coarsest times that file systems in use keep (FAT: 2 s).
constexpr time_t coarsest = 2;

FileState stateOf(const struct stat &info) {
  FileState state{info.st_dev, info.st_ino, info.st_size, info.st_mtim, info.st_ctim};
  state.settled = std::time(nullptr) - info.st_ctim.tv_sec > coarsest;
  return state;
}

struct File {
  explicit File(const std::string &path) : number(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)) {}
  ~File() {
    if (number >= 0) close(number);
  }
  const int number;
};

}  // namespace

std::optional<FileState> stateOf(const std::string &path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return std::nullopt;
  return stateOf(info);
}

std::string readSource(const std::string &path, FileState &state) {
  auto refuse = [&](const std::string &why) { throw std::invalid_argument(path + ": " + why); };
  struct stat info;
  auto check = [&](int result) {
    if (result != 0) refuse(std::strerror(errno));
    if (!S_ISREG(info.st_mode))
      refuse(std::string("expected a file, got a ") + (S_ISDIR(info.st_mode)    ? "directory"
                                                       : S_ISFIFO(info.st_mode) ? "pipe"
                                                                                : "device"));
    if (info.st_size > largest)
      refuse("expected a source of at most 1 MiB, got " + std::to_string(info.st_size) + " bytes");
  };
  // Before it is opened, which has effects of its own on some devices; and again, for what was put in its place.
  check(stat(path.c_str(), &info));
  const File file(path);
  if (file.number < 0) refuse(std::strerror(errno));
  check(fstat(file.number, &info));
  state = stateOf(info);
  std::string text(static_cast<size_t>(largest) + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t part = read(file.number, text.data() + size, text.size() - size);
    if (part < 0 && errno == EINTR) continue;
    if (part < 0) refuse(std::strerror(errno));
    if (part == 0) break;
    size += static_cast<size_t>(part);
  }
  if (size > static_cast<size_t>(largest)) refuse("expected a source of at most 1 MiB, got more");
  text.resize(size);
  return text;
}

}  // namespace weft
