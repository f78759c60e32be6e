#include "runtime/private_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <deque>
#include <utility>

#include "runtime/atomic_file.h"

namespace weft {
namespace {

namespace fs = std::filesystem;

constexpr int mostLinks = 40;  // as the kernel's own
constexpr unsigned othersWrite = S_IWGRP | S_IWOTH;

struct Descriptor {
  int number = -1;
  explicit Descriptor(int number = -1) : number(number) {}
  Descriptor(const Descriptor &) = delete;
  Descriptor &operator=(Descriptor &&other) noexcept {
    std::swap(number, other.number);
    return *this;
  }
  ~Descriptor() {
    if (number >= 0) close(number);
  }
};

std::string ownerProblem(const struct stat &found, const std::string &path, bool rootToo) {
  const uid_t user = geteuid();
  if (found.st_uid == user || (rootToo && found.st_uid == 0)) return {};
  return path + " belongs to user " + std::to_string(found.st_uid) + ", not to the one who runs this, " +
         std::to_string(user);
}

std::string modeProblem(const struct stat &found, const std::string &path) {
  return (found.st_mode & othersWrite) == 0
             ? ""
             : "others may write to " + path + " (right would be: chmod go-w " + path + ")";
}

/// What makes a folder on the way one in which others could put another in the place of the next.
std::string problemOnTheWay(const struct stat &found, const std::string &path) {
  std::string problem = ownerProblem(found, path, true);
  if (problem.empty() && !(found.st_mode & S_ISVTX)) problem = modeProblem(found, path);
  return problem;
}

void flushFolder(int folder) {
  // The folder was opened for its names alone, which cannot be flushed.
  const Descriptor again(openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (again.number >= 0) fsync(again.number);
}

/// Opens the folder, or gives -1 with what is wrong; nothing is wrong with one that is missing and not to be made.
int walk(const fs::path &path, bool make, std::string &wrong) {
  auto refuse = [&](std::string text) {
    wrong = std::move(text);
    return -1;
  };
  const fs::path whole = fs::absolute(path);
  std::deque<std::string> names(whole.begin(), whole.end());
  Descriptor folder;
  fs::path reached;
  struct stat found{};
  for (int links = 0; !names.empty();) {
    const std::string name = names.front();
    names.pop_front();
    if (name.empty() || name == ".") continue;
    const bool root = name == "/";
    const fs::path next = root ? fs::path(name) : name == ".." ? reached.parent_path() : reached / name;
    constexpr int namesOnly = O_PATH | O_NOFOLLOW | O_CLOEXEC;
    Descriptor entry(root ? open("/", namesOnly) : openat(folder.number, name.c_str(), namesOnly));
    if (entry.number < 0 && errno == ENOENT) {
      if (!make) return -1;
      if (mkdirat(folder.number, name.c_str(), 0700) == 0) flushFolder(folder.number);
      else if (errno != EEXIST) return refuse(next.string() + " cannot be made: " + std::strerror(errno));
      entry = Descriptor(openat(folder.number, name.c_str(), namesOnly));
    }
    if (entry.number < 0 || fstat(entry.number, &found) != 0)
      return refuse(next.string() + ": " + std::strerror(errno));
    if (S_ISLNK(found.st_mode)) {
      char target[PATH_MAX];
      const ssize_t length = readlinkat(entry.number, "", target, sizeof target);
      if (length <= 0 || length == sizeof target || ++links > mostLinks)
        return refuse(next.string() + " is a link that leads nowhere");
      if (std::string problem = ownerProblem(found, next, true); !problem.empty()) return refuse(problem);
      const fs::path rest(std::string(target, static_cast<size_t>(length)));
      names.insert(names.begin(), rest.begin(), rest.end());
      continue;
    }
    if (!S_ISDIR(found.st_mode)) return refuse(next.string() + " is not a folder");
    if (std::string problem = problemOnTheWay(found, next); !problem.empty()) return refuse(problem);
    folder = std::move(entry);
    reached = next;
  }
  if (std::string problem = ownerProblem(found, reached, false); !problem.empty()) return refuse(problem);
  if (std::string problem = modeProblem(found, reached); !problem.empty()) return refuse(problem);
  const int opened = openat(folder.number, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return opened < 0 ? refuse(reached.string() + ": " + std::strerror(errno)) : opened;
}

}  // namespace

PrivateFolder::PrivateFolder(const fs::path &path, bool make) : folder(walk(path, make, why)) {}
PrivateFolder::PrivateFolder(PrivateFolder &&other) noexcept
    : why(std::move(other.why)), folder(std::exchange(other.folder, -1)) {}
PrivateFolder::~PrivateFolder() {
  if (folder >= 0) close(folder);
}

bool PrivateFolder::read(const std::string &name, std::string &text, std::string &refused) const {
  refused.clear();
  if (!usable()) return false;
  // Without waiting: opening a pipe would.
  const Descriptor file(openat(folder, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat found;
  if (file.number < 0) {
    if (errno == ELOOP) refused = "it is a link";
    else if (errno != ENOENT) refused = std::strerror(errno);
    return false;
  }
  if (fstat(file.number, &found) != 0) refused = std::strerror(errno);
  else if (!S_ISREG(found.st_mode)) refused = "it is no plain file";
  else if (refused = ownerProblem(found, name, false); refused.empty()) refused = modeProblem(found, name);
  if (!refused.empty()) return false;
  text.clear();
  char part[1 << 16];
  while (true) {
    const ssize_t got = ::read(file.number, part, sizeof part);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) refused = std::strerror(errno);
    if (got <= 0) return got == 0;
    text.append(part, static_cast<size_t>(got));
  }
}

std::string PrivateFolder::replace(const std::string &name, std::string_view text) const {
  if (!usable()) return why.empty() ? "there is no such folder" : why;
  return replaceFileIn(folder, name, text, 0600);
}

bool PrivateFolder::rename(const std::string &name, const std::string &to) const {
  struct stat found;
  return usable() && fstatat(folder, to.c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0 &&
         renameat(folder, name.c_str(), folder, to.c_str()) == 0;
}

int PrivateFolder::openLock(const std::string &name) const {
  return usable() ? openat(folder, name.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600) : -1;
}

}  // namespace weft
