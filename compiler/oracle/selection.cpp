#include "compiler/oracle/selection.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "compiler/language/selection.h"

namespace weft::reference {

using ast::Keep;

Selection::Selection(const ast::Variant &variant, Evaluator &evaluator, int64_t b, int64_t h)
    : variant(variant), evaluator(evaluator), b(b), h(h), T(evaluator.dims["T"]), S(evaluator.dims["S"]) {
  for (const ast::Select &select : variant.selects) {
    const int64_t columns = (S + select.tileK - 1) / select.tileK;
    Chosen round{&select, columns, std::vector<char>((T + select.tileQ - 1) / select.tileQ * columns, 0)};
    for (int64_t i = 0; i < T; i += select.tileQ) choose(round, i);
    rounds.push_back(std::move(round));
  }
}

/// The value of `expr` for the tile of queries that starts at i and a tile of keys.
double Selection::estimate(const ast::Select &round, int64_t i, int64_t tile, const ast::ExprPtr &expr) {
  evaluator.start(b, h, i, tile * round.tileK, false);
  evaluator.selecting = &round;
  const double value = evaluator.value(expr);
  evaluator.selecting = nullptr;
  return value;
}

/// True where the masks leave a pair of the tile at (i, j), and the round before kept it.
bool Selection::possible(const ast::Select &round, int64_t i, int64_t j) {
  if (!rounds.empty() && !rounds.back().at(i, j)) return false;
  for (int64_t y = i; y < std::min(i + round.tileQ, T); ++y)
    for (int64_t x = j; x < std::min(j + round.tileK, S); ++x) {
      evaluator.start(b, h, y, x, false);
      if (std::ranges::all_of(variant.sets[0].wheres,
                              [&](const ast::ExprPtr &where) { return evaluator.value(where) != 0; }))
        return true;
    }
  return false;
}

/// The tiles of keys for the queries that start at i.
void Selection::choose(Chosen &round, int64_t i) {
  const ast::Select &select = *round.select;
  char *row = round.row(i);
  auto at = [&](int64_t tile, const ast::ExprPtr &expr) { return estimate(select, i, tile, expr); };
  // First what is kept without an estimate; the rest competes.
  std::vector<int64_t> ranked, anchors;  // anchors: kept in any case, off the diagonal
  for (int64_t tile = 0; tile < round.columns; ++tile) {
    const int64_t j = tile * select.tileK;
    if (!possible(select, i, j)) continue;
    const bool diagonal = i < j + select.tileK && j < i + select.tileQ;
    for (const Keep &keep : select.keeps) {
      if (keep.kind == Keep::Kind::Diagonal) row[tile] |= diagonal;
      if (keep.kind == Keep::Kind::First) row[tile] |= static_cast<double>(tile) < at(tile, keep.amount);
      if (keep.kind == Keep::Kind::Condition && !ast::holdsDot(*keep.value)) row[tile] |= at(tile, keep.value) != 0;
    }
    if (!row[tile]) ranked.push_back(tile);
    else if (!diagonal) anchors.push_back(tile);
  }
  for (const Keep &keep : select.keeps) {
    if (keep.kind == Keep::Kind::Condition && ast::holdsDot(*keep.value))
      for (int64_t tile : ranked) row[tile] |= at(tile, keep.value) != 0;
    if (keep.kind == Keep::Kind::Near) {
      double anchor = -std::numeric_limits<double>::infinity();
      for (int64_t tile : anchors) anchor = std::max(anchor, at(tile, keep.value));
      for (int64_t tile : ranked) row[tile] |= !anchors.empty() && at(tile, keep.value) >= anchor - at(0, keep.amount);
    }
    if (keep.kind != Keep::Kind::TopK && keep.kind != Keep::Kind::TopP) continue;
    std::vector<std::pair<double, int64_t>> order;
    for (int64_t tile : ranked) order.push_back({-at(tile, keep.value), tile});
    std::ranges::sort(order);
    const double amount = at(0, keep.amount);
    double total = 0, sum = 0;
    for (auto [value, tile] : order) total += std::exp(order[0].first - value);
    for (size_t n = 0; n < order.size(); ++n) {
      if (keep.kind == Keep::Kind::TopK ? static_cast<double>(n) >= amount : sum >= amount * total) break;
      row[order[n].second] = 1;
      sum += std::exp(order[0].first - order[n].first);
    }
  }
}

}  // namespace weft::reference
