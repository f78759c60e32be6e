#include "models/interrupt.h"

#include <csignal>
#include <unistd.h>

namespace weft {

static volatile std::sig_atomic_t flag = 0;

void catchInterrupts() {
  auto handler = [](int) {
    if (flag) _exit(130);
    flag = 1;
  };
  std::signal(SIGINT, handler);
  std::signal(SIGTERM, handler);
}
bool interrupted() { return flag != 0; }

}  // namespace weft
