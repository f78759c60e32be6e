#include "models/interrupt.h"

#include <unistd.h>
#include <csignal>
#include <ctime>

#include <atomic>

namespace weft {

static std::atomic<int> caught = 0;
static std::atomic<time_t> caughtAt = 0;

/// Only Ctrl-C again means haste: a closed terminal, `timeout` and service managers send their signal twice by
/// themselves, and `timeout -s INT` does so within a moment.
static void take(int number) {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  int none = 0;
  if (caught.compare_exchange_strong(none, number)) caughtAt = now.tv_sec;
  else if (number == SIGINT && now.tv_sec > caughtAt + 1) _exit(128 + number);
}

void catchInterrupts() {
  struct sigaction action{};
  action.sa_handler = take;
  action.sa_flags = SA_RESTART;
  for (int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) {
    struct sigaction before{};
    sigaction(number, nullptr, &before);
    if (number != SIGHUP || before.sa_handler != SIG_IGN) sigaction(number, &action, nullptr);
  }
  // A limit on the size of files is then an error of the write, as a full disk is.
  std::signal(SIGXFSZ, SIG_IGN);
}

bool interrupted() { return caught != 0; }
int interruptCode() { return caught == 0 ? 0 : 128 + caught; }

}  // namespace weft
