// The ways a warp goes through a kernel: to its hot loop, around it, and on to the end.
#pragma once

#include <vector>

#include "autotune/timeline/code.h"

namespace weft::timeline {

/// Instructions in the order in which a warp executes them, as positions in Code::instructions.
using Path = std::vector<int>;

struct Paths {
  bool loop = false;   ///< there is one; where there is none, all is in `before`
  Path once;           ///< of blocks that take programs: from the entry to the first; else none
  Path before;         ///< from the entry, or the beginning of a program, to the loop
  Path full;           ///< a turn of a tile that is kept whole: the shortest way around that does the loop's work
  Path partial;        ///< of a tile that is masked: the longest way
  Path after;          ///< from the loop to the end, of the program too
  int loops = 0;       ///< that multiply tiles; the largest is the hot one
  int bulkCopies = 0;  ///< of a turn, in loops of warps that multiply nothing
};

/// The hot loop is the innermost one, closed by a branch back, with the most tensor instructions. Other loops on the
/// way make `otherTurns`. Slow paths that call functions are not taken where there is a way around them. Where blocks
/// take `programs`, the outermost loop around the hot one is that over them.
Paths findPaths(const Code &code, int otherTurns = 1, bool programs = false);

bool isTensor(const Instruction &instruction);

}  // namespace weft::timeline
