// Kernels that choose tiles by what is in them.
//
// Before: weft.pairwise @select_R, one a round: its i and j are a tile's first query and key, its dots are of pooled
// rows. After: tile.kernel @pool_N, which pools the rows of each tile of one input, or @select_R, which estimates each
// tile that the masks leave possible and writes which it chooses to a map of tiles, bool [B, H, query tiles, key
// tiles].
//
// Single keys are tiles of one; @list_keys makes lists of them from the last round's map.
//
// The k-th greatest estimate of a row, and the estimate down to which a share of the mass lies, are found by bisection
// over the bits of the numbers: 32 turns whatever the numbers are, and no sorting.
#pragma once

#include "compiler/transforms/build_kernels.h"

namespace weft {

/// Tile sizes of the last round; false where the variant selects nothing, or single keys: those come as lists.
struct SelectedTiles {
  int tileQ = 0, tileK = 0;
  explicit operator bool() const { return tileQ > 0; }
};
SelectedTiles selectedTiles(mlir::ModuleOp module);

/// `kernel` is pool_N, select_R or list_keys.
void buildSelect(mlir::ModuleOp module, const std::string &kernel, const KernelShape &shape);

/// Pooled rows of keys that lie column by column: one for each lane of a warp, whole registers of a CPU. Kernels that
/// pool and kernels that choose agree on it.
inline constexpr int pooledBlock = 32;
/// Tiles of queries that one program of a round chooses for. Single keys are many: those pooled for a head are more
/// than a cache holds, and read once for all of a program's tiles.
inline int tilesOfProgram(int tileK) { return tileK == 1 ? 4 : 1; }

/// The map that round `round` of `rounds` writes.
std::string selectionBuffer(size_t round, size_t rounds);

}  // namespace weft
