// Which pairs of one head a variant's selection leaves.
#pragma once

#include <vector>

#include "compiler/oracle/evaluator.h"

namespace weft::reference {

class Selection {
 public:
  Selection(const ast::Variant &variant, Evaluator &evaluator, int64_t b, int64_t h);

  /// True where the last round keeps the tile of (i, j), or there is none.
  bool operator()(int64_t i, int64_t j) const { return rounds.empty() || rounds.back().at(i, j); }

 private:
  /// A round's table of tiles.
  struct Chosen {
    const ast::Select *select;
    int64_t columns;
    std::vector<char> tiles;

    char *row(int64_t i) { return &tiles[i / select->tileQ * columns]; }
    bool at(int64_t i, int64_t j) const { return tiles[i / select->tileQ * columns + j / select->tileK]; }
  };

  const ast::Variant &variant;
  Evaluator &evaluator;
  const int64_t b, h, T, S;
  std::vector<Chosen> rounds;

  void choose(Chosen &round, int64_t i);
  double estimate(const ast::Select &round, int64_t i, int64_t tile, const ast::ExprPtr &expr);
  bool possible(const ast::Select &round, int64_t i, int64_t j);
};

}  // namespace weft::reference
