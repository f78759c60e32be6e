// Which accesses come before which: vector clocks of all that acts on a block's shared memory.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace weft::ptx {

/// Who acts: a warp by its number; then, as a block meets them, what is done by the async proxy: the bulk copies that
/// one mbarrier waits for, those that one warp stores, the products of one warpgroup.
using Agent = uint32_t;
constexpr Agent mostAgents = 256;

/// How much of each agent's past is known: times up to that of each.
class Clock {
 public:
  uint32_t &operator[](Agent agent) { return times[agent]; }
  uint32_t operator[](Agent agent) const { return times[agent]; }
  /// Of the first `used` agents.
  void join(const Clock &other, Agent used) {
    for (Agent agent = 0; agent < used; ++agent) times[agent] = std::max(times[agent], other.times[agent]);
  }
  void meet(const Clock &other, Agent used) {
    for (Agent agent = 0; agent < used; ++agent) times[agent] = std::min(times[agent], other.times[agent]);
  }

 private:
  std::array<uint32_t, mostAgents> times{};
};

/// An agent at a time: time << 8 | agent. Zero comes before all.
using Stamp = uint32_t;
constexpr uint32_t latestTime = (1u << 23) - 1;
inline Stamp stampOf(Agent agent, uint32_t time) { return time << 8 | agent; }
inline Agent agentOf(Stamp stamp) { return stamp & 255; }
inline uint32_t timeOf(Stamp stamp) { return stamp >> 8; }

}  // namespace weft::ptx
