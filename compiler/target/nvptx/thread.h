// One thread of a CTA: its coordinates, which elements of a tile it holds (#cta.mma_sync), and what it exchanges with
// the other threads of its warp.
#pragma once

#include "compiler/target/emitter.h"
#include "compiler/target/scalar_program.h"
#include "llvm/ADT/ScopeExit.h"

namespace weft::nvptx {

using target::Emitter;
using target::Value;

class Thread {
 public:
  Thread(Emitter &emit, int64_t warps) : warps(warps), emit(emit) {}

  /// Reads the coordinates at the insertion point; call once, at the kernel's start.
  void begin();

  const int64_t warps;
  int64_t threads() const { return 32 * warps; }
  Value number, warp, lane;  ///< i32: in the CTA; of the warp; in the warp
  Value group, quad;         ///< i32: lane / 4; lane % 4

  /// Blocks of 16 rows that a warp holds of so many rows.
  int64_t blocks(int64_t rows) const { return rows / (16 * warps); }
  /// i32 first row of a block.
  Value blockRow(int64_t block);
  /// i64 row of register row `half` (0 or 1) of block `block`.
  Value row(int64_t block, int half);
  /// i64 column of element `e` (0 to 3) of the 8 columns `tile`.
  Value column(int64_t tile, int e);
  /// i1: the thread is the first of the four that hold a row.
  Value isFirstOfRow();
  /// i1: the thread is in the first of the eight groups that hold a column.
  Value isFirstOfColumn();

  /// The same 32 bits, hidden from LLVM: else each of the many addresses that a loop uses anew in every turn is
  /// computed ahead of it and takes a register, where base plus constant offset takes none.
  Value anchored(Value value);
  /// Runs body() with coordinates of its own: what follows from them is not computed ahead of a loop around.
  template <class Body>
  auto withOwnCoordinates(Body body) {
    return withOwn({&group, &quad, &warp}, body);
  }
  /// The same with some of them.
  template <class Body>
  auto withOwn(std::initializer_list<Value *> own, Body body) {
    llvm::SmallVector<Value, 5> saved;
    for (Value *coordinate : own) {
      saved.push_back(*coordinate);
      *coordinate = anchored(*coordinate);
    }
    const llvm::scope_exit restore([&] {
      for (auto [coordinate, value] : llvm::zip(own, saved)) *coordinate = value;
    });
    return body();
  }

  /// The value, i32 or f32, of the thread whose lane differs in the bits of `mask`.
  Value exchange(Value value, int mask);
  /// The first lane's i32, in all threads of a warp, and known to be the same in them.
  Value firstLanes(Value value);
  /// Combines over the four threads that hold a row.
  Value reduceRow(Value value, bool max);
  /// Adds over the eight threads of the warp that hold a column.
  Value addColumn(Value value);
  /// This warp's threads, for a program that they share.
  target::Lanes lanes();

 private:
  Emitter &emit;
};

}  // namespace weft::nvptx
