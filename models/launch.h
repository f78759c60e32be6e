// What torchrun says of the processes that it started: how many there are, which one this is, where they meet.
#pragma once

#include <cstdint>
#include <string>

namespace weft {

struct Launch {
  int64_t rank = 0, size = 1;            ///< RANK, WORLD_SIZE
  int64_t localRank = 0, localSize = 1;  ///< LOCAL_RANK, LOCAL_WORLD_SIZE: of those on this machine
  std::string address;                   ///< MASTER_ADDR: where the store is
  uint16_t port = 0;                     ///< MASTER_PORT
  int64_t restarts = 0;                  ///< TORCHELASTIC_RESTART_COUNT: how often all were started anew
  bool agentStore = false;               ///< TORCHELASTIC_USE_AGENT_STORE: torchrun has the store, not rank 0
};

/// Of the environment. Without WORLD_SIZE, or with 1, a process is alone. Throws std::runtime_error that names the
/// variable which is missing or no number.
Launch readLaunch();
/// "rank 1: " before the errors of one of several processes, whose lines come one among another; empty of one alone.
/// Throws nothing.
std::string rankPrefix();

}  // namespace weft
