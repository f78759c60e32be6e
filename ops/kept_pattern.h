// Which tiles a call keeps, counted for any tile size.
#pragma once

#include <utility>
#include <vector>

#include "ops/binding.h"

namespace weft::ops {

class KeptPattern {
 public:
  /// Finds the tiles that `call` keeps; `lastRowAlone`: those of the last row of tiles of each head, as decoding does,
  /// where other rows then keep none. The call's schedule has HeadsInner for that.
  explicit KeptPattern(const Binding &call, bool lastRowAlone = false);

  struct Count {
    int64_t kept = 0;     ///< tiles of the head
    int64_t longest = 0;  ///< of one row of tiles
  };
  /// Of head `head` of B * H, of all its sets of keys. Tiles smaller than those of the plan count as kept where the
  /// plan's are. Where each query has keys of its own, tileQ counts as 1.
  Count count(int64_t head, int64_t tileQ, int64_t tileK) const;
  /// Kept tiles of one row of tiles, or of one column.
  struct Turns {
    int full = 0, masked = 0;  ///< every pair is kept; masks are looked at
  };
  /// Of each tile of queries of a head, from the first; `byKeys`: of each tile of keys. `set`: of the variant's sets of
  /// keys. Tiles of another size than the plan's are full where those of the plan are that cover them.
  std::vector<Turns> turns(int64_t head, int64_t tileQ, int64_t tileK, size_t set, bool byKeys) const;
  /// Numbers of the kept tiles of the last row of a head, from the first, as the plan cuts keys into tiles.
  std::vector<int64_t> lastRow(int64_t head, size_t set) const;
  size_t setCount() const { return sets.size(); }
  /// Keys of a set that a query can look at.
  int64_t keysOf(size_t set) const { return sets.at(set).S; }
  /// Bits of the distribution of kept tiles of v over their distance, query tile less key tile: 0 where all are of one
  /// distance.
  double entropy(int64_t head) const;
  /// Of how many of the newest keys the greatest distance is that a query of the call sees: S where keys are not kept
  /// by distance.
  int64_t reach() const;
  /// The first of the keys of v that any tile keeps, and the one behind the last; the same where there are none. Where
  /// single keys are chosen: places in the lists of them.
  std::pair<int64_t, int64_t> keptKeys() const;
  int64_t heads() const { return headCount; }
  /// Keys of v that a query can look at: S, or the length of its list.
  int64_t keys() const { return sets[0].S; }
  /// Rows of tiles of a head: tiles of queries or, where each query has keys of its own, queries.
  int64_t rowsOf(int64_t wantQ) const { return tileQ == 1 ? T : (T + wantQ - 1) / wantQ; }
  /// False where a tile of rows that are heads begins with another head: their programs are counted once, with that
  /// one.
  bool leads(int64_t head, int64_t wantQ) const { return tileQ > 1 || head % headsOfGroup % wantQ == 0; }
  /// Tiles of a head's queries and the keys of v, kept or not.
  int64_t tiles() const { return (T + tileQ - 1) / tileQ * ((sets[0].S + tileK - 1) / tileK); }

 private:
  /// Of one set of keys.
  struct Keys {
    int64_t S;
    std::vector<int> bands;            ///< 4 a head: the least and the largest i - j, and two the kernels use
    std::vector<int> counts, entries;  ///< lists by query tile, each with room for all key tiles
  };
  /// How many of the plan's tiles, of how many of its rows, meet each tile of keys of a row of tiles, and are full.
  struct Parts {
    std::vector<int> kept, full;
    int64_t rows = 0;
  };
  /// Of the kept tiles of a row of tiles.
  int64_t listOf(int64_t head, int64_t row) const;
  void partsOf(const Keys &keys, int64_t head, int64_t wantRow, int64_t wantQ, int64_t wantK, Parts &parts) const;
  void add(const Keys &keys, int64_t head, int64_t wantQ, int64_t wantK, Count &result) const;

  int64_t headCount, T;
  /// Where tileQ is 1: heads that share lists, of a batch entry, and of one of the plan's tiles.
  int64_t headsOfGroup = 1, headsOfBatch = 1, headTile = 1;
  int64_t tileQ, tileK;  ///< of the plan; tileQ 1: each query has keys of its own, and is counted by itself
  std::vector<Keys> sets;
};

}  // namespace weft::ops
