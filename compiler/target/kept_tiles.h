// The kept tiles of one row of tiles: the bounds of the loop over them, and what each turn is.
#pragma once

#include <functional>

#include "compiler/target/tensors.h"

namespace weft::target {

struct KeptTiles {
  Value from, to;  ///< i64: the loop's bounds
  /// The tile's number (i64) and whether every pair of it is kept and in bounds (i1), of turn `at`.
  std::function<std::pair<Value, Value>(Value at)> tile;
};

/// How a kernel's tiles lie.
struct Tiling {
  int64_t tileQ, tileK;
};

/// Which tiles a loop over kept tiles runs over; see tile.for.
struct KeptLoop {
  tile::Range over;
  mlir::ArrayAttr plan;
  std::string keyDim;

  bool overKeys() const { return over == tile::Range::Keys || over == tile::Range::KeysDescending; }
};
KeptLoop keptLoop(tile::ForOp loop);

/// Tiles of so many, or of `dim`, i64.
Value tileCount(Emitter &emit, Value extent, int64_t tile);
Value tileCount(Emitter &emit, KernelArguments &slots, const std::string &dim, int64_t tile);
/// What `loop` runs over: key tiles that query tile `start` keeps, or query tiles that key tile `start` keeps. All i64.
KeptTiles keptTiles(Emitter &emit, KernelArguments &slots, const Tiling &tiling, const KeptLoop &loop, Value batch,
                    Value head, Value start);

}  // namespace weft::target
