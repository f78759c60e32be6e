// Mbarriers of tiles and numbers that go from one role to another, and the threads' places along them. PTX ISA,
// "mbarrier".
#pragma once

#include "compiler/target/nvptx/thread.h"

namespace weft::nvptx {

struct KernelCode;

/// How far a role has come along rings: variables of the thread, i32.
struct Cursor {
  int64_t stages;
  Value stage;              ///< !llvm.ptr; the tile
  Value phase;              ///< !llvm.ptr; 0 or 1, another one each time around
  bool ofPrograms = false;  ///< it goes on with the next program, and not before
};

/// Of each tile two, those of Full first.
enum class Side { Full, Empty };

/// At the first tile.
Cursor beginCursor(KernelCode &code, int64_t stages);
void advance(KernelCode &code, const Cursor &cursor);
Value stageOf(KernelCode &code, const Cursor &cursor);
/// Where its number is among words that begin at `words` (i32).
Value wordOf(KernelCode &code, Value words, const Cursor &cursor);

/// By one thread: full once `fillers` have arrived, empty once `readers` have.
void initBarriers(KernelCode &code, Value barriers, int64_t stages, int64_t fillers, int64_t readers);
/// i32: the mbarrier of the tile that the cursor has come to.
Value barrierOf(KernelCode &code, Value barriers, const Cursor &cursor, Side side);
void waitFull(KernelCode &code, Value barriers, const Cursor &cursor);
/// The first time around the tiles are empty.
void waitEmpty(KernelCode &code, Value barriers, const Cursor &cursor);
void arrive(KernelCode &code, Value barrier);
/// Once a warp, when all of it has come here.
void arriveOnce(KernelCode &code, Value barrier);

/// A number of 32 bits in shared memory, at an i32 address.
Value loadWord(KernelCode &code, Value address);
void storeWord(KernelCode &code, Value number, Value address);

}  // namespace weft::nvptx
