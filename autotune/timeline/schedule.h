// Warps of one SM issue a path's instructions in order, as registers, pipes and barriers allow.
#pragma once

#include "autotune/timeline/pipes.h"

namespace weft::timeline {

/// What warps wait for. Pipes come first: the result of an instruction of that pipe.
enum class Wait : uint8_t { Busy = pipes, Slot, Barrier, Copies };
constexpr int waits = pipes + 4;
/// "results of the tensor cores".
std::string nameOfWait(int wait);

struct Resident {
  int blocks = 1;
  int warpsPerBlock = 4;
};

/// Sums over all warps of an SM.
struct Run {
  double cycles = 0;                   ///< until the last warp is through
  double issued = 0;                   ///< instructions
  std::array<double, pipes> busy{};    ///< cycles of each pipe, the four quarters' together
  std::array<double, waits> waited{};  ///< warps' cycles
};

/// All blocks begin with `steps`, a little apart, and go through it `turns` times. `registers`: of Code.
Run schedule(const std::vector<Step> &steps, int turns, const Resident &resident, int registers, const Chip &chip);

/// Of one turn of all resident warps, once the loop runs evenly.
Run steady(const std::vector<Step> &turn, const Resident &resident, int registers, const Chip &chip);

}  // namespace weft::timeline
