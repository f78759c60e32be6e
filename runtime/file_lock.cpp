#include "runtime/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

namespace weft {

static struct flock byteOf(off_t position, short kind) {
  struct flock lock{};
  lock.l_type = kind;
  lock.l_whence = SEEK_SET;
  lock.l_start = position;
  lock.l_len = 1;
  return lock;
}

FileLock::FileLock(const PrivateFolder &folder, const std::string &name, Wait wait) : file(folder.openLock(name)) {
  if (file < 0) return;
  do locked = flock(file, LOCK_EX | (wait == Wait::No ? LOCK_NB : 0)) == 0;
  while (!locked && errno == EINTR);
}
FileLock::~FileLock() {
  if (file < 0) return;
  // Closing would not do where a child made by fork has the file open too.
  if (locked) flock(file, LOCK_UN);
  close(file);
}

Turn::Turn(const PrivateFolder &folder, const std::string &name, const std::string &key,
           std::chrono::milliseconds patience)
    : file(folder.openLock(name)) {
  if (file < 0) return;
  constexpr auto pause = std::chrono::milliseconds(5);
  constexpr size_t digits = 15;  // 60 bits: an offset in a file is a positive 64-bit number
  struct flock lock = byteOf(std::stoll(key.substr(0, digits), nullptr, 16), F_WRLCK);
  const auto end = std::chrono::steady_clock::now() + patience;
  // Of the open file, so that threads of one process have turns too, and closing another descriptor does not end one.
  while (fcntl(file, F_OFD_SETLK, &lock) != 0 && (errno == EAGAIN || errno == EACCES || errno == EINTR) &&
         std::chrono::steady_clock::now() < end) {
    late = true;
    std::this_thread::sleep_for(pause);
  }
}
Turn::~Turn() {
  if (file < 0) return;
  struct flock all = byteOf(0, F_UNLCK);
  all.l_len = 0;
  fcntl(file, F_OFD_SETLK, &all);  // see ~FileLock
  close(file);
}

}  // namespace weft
