#include "models/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "models/user_files.h"

namespace weft {

RunLock::RunLock(const std::string &directory) {
  // The file stays: removed, two processes could hold locks on two files of its name.
  const std::string path = directory + "/train.lock";
  demandReplaceable(path);
  file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (file < 0) throw std::runtime_error("cannot write " + path + ": " + std::strerror(errno));
  int held;
  do held = flock(file, LOCK_EX | LOCK_NB);
  while (held != 0 && errno == EINTR);
  if (held == 0) return;
  const int error = errno;
  close(file);
  throw std::runtime_error(error == EWOULDBLOCK ? "another weft train is at work in " + directory +
                                                      "; wait for it, or give another --out"
                                                : "cannot lock " + path + ": " + std::strerror(error));
}

RunLock::~RunLock() { close(file); }

}  // namespace weft
