// What an instruction costs: which pipe of an SM it occupies, for how long, and when its result is there.
#pragma once

#include <array>
#include <vector>

#include "autotune/timeline/chip.h"
#include "autotune/timeline/paths.h"

namespace weft::timeline {

/// Each scheduler has its own of the first ones; Shared and L2 serve a whole SM.
enum class Pipe : uint8_t { Tensor, Special, Fma, FmaOnly, Alu, Uniform, Shared, L2, None };
constexpr int pipes = 8;
const char *name(Pipe pipe);
inline bool ofUnit(Pipe pipe) { return pipe == Pipe::Shared || pipe == Pipe::L2; }

/// One instruction of a path, priced.
struct Step {
  enum class Kind : uint8_t { Plain, Barrier, TakeTurn, PassTurn, Commit, WaitCopies, Group, WaitGroup };
  Kind kind = Kind::Plain;
  Pipe pipe = Pipe::None;
  bool either = false;   ///< Fma: FmaOnly would do as well
  float cycles = 0;      ///< the pipe is busy
  float l2Cycles = 0;    ///< the way from L2 is busy
  float latency = 1;     ///< from issue to use
  float pause = 1;       ///< from issue to the warp's next one
  int number = 0;        ///< groups that may be outstanding
  bool commits = false;  ///< the last of a group of asynchronous products
  bool copy = false;     ///< asynchronous, to shared memory
  double flop = 0;       ///< of a warp
  int bytes = 0;         ///< of a warp, from or to L2
  std::vector<int> reads, writes;
};

std::vector<Step> price(const Code &code, const Path &path, const Chip &chip);

/// Sums over a path, before anything is scheduled: instructions, cycles of each pipe (of a warp; of a quarter of an SM,
/// or for Shared and L2 of all of it), flop, bytes.
struct Totals {
  double instructions = 0, flop = 0, bytes = 0;
  std::array<double, pipes> cycles{};
};
Totals totals(const std::vector<Step> &steps);

}  // namespace weft::timeline
