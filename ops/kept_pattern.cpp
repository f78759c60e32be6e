#include "ops/kept_pattern.h"

#include <cmath>
#include <map>

#include "ops/execution.h"
#include "ops/schedules.h"

namespace weft::ops {

static std::vector<int> values(const at::Tensor &tensor) {
  const at::Tensor here = tensor.cpu();
  return {here.data_ptr<int>(), here.data_ptr<int>() + here.numel()};
}

static CallForm formOf(const Binding &call, bool lastRowAlone) {
  CallForm form = call.form(Purpose::KeptTiles);
  form.lastTileOnly = lastRowAlone;
  return form;
}

KeptPattern::KeptPattern(const Binding &call, bool lastRowAlone)
    : headCount(call.B * call.H), T(call.T), tileQ(call.set.schedule.tileQ), tileK(call.set.schedule.tileK) {
  Execution pass(call, formOf(call, lastRowAlone));
  pass.run();
  auto held = [&](int buffer) { return buffer < 0 ? std::vector<int>() : values(pass[buffer]); };
  for (const CallPlan::KeptTiles &kept : pass.plan.kept)
    sets.push_back({pass.size(kept.keys), held(kept.band), held(kept.counts), held(kept.entries)});
  const TileRows rows = call.set.variant->rows();
  if (rows == TileRows::Queries) return;
  headTile = tileQ;
  tileQ = 1;
  headsOfGroup = rowCount(rows, call.H, call.G, call.T);
  headsOfBatch = call.H;
}

/// Lists are [B, H, tiles of queries] or, where rows are heads, [B, T, groups or heads, tiles of heads].
int64_t KeptPattern::listOf(int64_t head, int64_t row) const {
  if (tileQ > 1) return head * ((T + tileQ - 1) / tileQ) + row;
  const int64_t b = head / headsOfBatch, h = head % headsOfBatch, groups = headsOfBatch / headsOfGroup,
                tiles = (headsOfGroup + headTile - 1) / headTile;
  return ((b * T + row) * groups + h / headsOfGroup) * tiles + h % headsOfGroup / headTile;
}

KeptPattern::Count KeptPattern::count(int64_t head, int64_t wantQ, int64_t wantK) const {
  Count result;
  for (const Keys &keys : sets) add(keys, head, wantQ, wantK, result);
  return result;
}

void KeptPattern::add(const Keys &keys, int64_t head, int64_t wantQ, int64_t wantK, Count &result) const {
  const auto &[S, bands, counts, entries] = keys;
  int64_t longest = 0;
  auto add = [&](int64_t tiles) {
    result.kept += tiles;
    longest = std::max(longest, tiles);
  };
  if (!bands.empty()) {
    const int low = bands[head * 4], high = bands[head * 4 + 1];
    for (int64_t first = 0; first < T && low <= high; first += wantQ) {
      const int64_t last = std::min(first + wantQ, T) - 1;
      const int64_t from = std::max<int64_t>(first - high, 0), to = std::min<int64_t>(last - low, S - 1);
      if (to >= from) add(to / wantK - from / wantK + 1);
    }
    result.longest += longest;
    return;
  }
  if (tileQ == 1) wantQ = 1;
  Parts parts;
  for (int64_t row = 0; row * wantQ < T; ++row) {
    partsOf(keys, head, row, wantQ, wantK, parts);
    add(std::count_if(parts.kept.begin(), parts.kept.end(), [](int kept) { return kept > 0; }));
  }
  result.longest += longest;
}

void KeptPattern::partsOf(const Keys &keys, int64_t head, int64_t wantRow, int64_t wantQ, int64_t wantK,
                          Parts &parts) const {
  const int64_t rows = (T + tileQ - 1) / tileQ, others = (keys.S + tileK - 1) / tileK;
  parts.kept.assign((keys.S + wantK - 1) / wantK, 0);
  parts.full.assign(parts.kept.size(), 0);
  const int64_t first = wantRow * wantQ / tileQ,
                end = std::min((std::min((wantRow + 1) * wantQ, T) + tileQ - 1) / tileQ, rows);
  parts.rows = end - first;
  for (int64_t row = first; row < end; ++row)
    for (int64_t list = listOf(head, row), at = list * others, stop = at + keys.counts[list]; at < stop; ++at) {
      // An entry is twice the tile's number, plus one where the tile is full.
      const int64_t begin = (keys.entries[at] >> 1) * tileK, last = std::min(begin + tileK, keys.S);
      for (int64_t tile = begin / wantK; tile * wantK < last; ++tile) {
        ++parts.kept[tile];
        parts.full[tile] += keys.entries[at] & 1;
      }
    }
}

std::vector<KeptPattern::Turns> KeptPattern::turns(int64_t head, int64_t wantQ, int64_t wantK, size_t set,
                                                   bool byKeys) const {
  const auto &[S, bands, counts, entries] = sets.at(set);
  if (tileQ == 1) wantQ = 1;
  const int64_t wantRows = (T + wantQ - 1) / wantQ, wantOthers = (S + wantK - 1) / wantK;
  std::vector<Turns> result(byKeys ? wantOthers : wantRows);
  auto add = [&](int64_t row, int64_t other, bool full) {
    Turns &turns = result[byKeys ? other : row];
    ++(full ? turns.full : turns.masked);
  };
  if (!bands.empty()) {
    const int *band = &bands[head * 4];
    for (int64_t row = 0; row < wantRows && band[0] <= band[1]; ++row) {
      const int64_t first = row * wantQ, last = std::min(first + wantQ, T) - 1;
      const int64_t from = std::max<int64_t>(first - band[1], 0), to = std::min<int64_t>(last - band[0], S - 1);
      for (int64_t other = from / wantK; to >= from && other <= to / wantK; ++other) {
        const int64_t j0 = other * wantK, j1 = j0 + wantK - 1;
        add(row, other, first - j1 >= band[2] && last - j0 <= band[3] && first + wantQ <= T && j1 < S);
      }
    }
    return result;
  }
  Parts parts;
  for (int64_t row = 0; row < wantRows; ++row) {
    partsOf(sets[set], head, row, wantQ, wantK, parts);
    for (int64_t other = 0; other < wantOthers; ++other) {
      const int64_t begin = other * wantK / tileK, stop = (std::min((other + 1) * wantK, S) + tileK - 1) / tileK;
      if (parts.kept[other]) add(row, other, parts.full[other] == parts.rows * (stop - begin));
    }
  }
  return result;
}

std::vector<int64_t> KeptPattern::lastRow(int64_t head, size_t set) const {
  const auto &[S, bands, counts, entries] = sets.at(set);
  std::vector<int64_t> tiles;
  if (T == 0 || S == 0) return tiles;
  const int64_t row = (T - 1) / tileQ;
  if (!bands.empty()) {
    const int low = bands[head * 4], high = bands[head * 4 + 1];
    const int64_t from = std::max<int64_t>(row * tileQ - high, 0), to = std::min<int64_t>(T - 1 - low, S - 1);
    for (int64_t tile = from / tileK; low <= high && to >= from && tile <= to / tileK; ++tile) tiles.push_back(tile);
    return tiles;
  }
  const int64_t list = listOf(head, row), others = (S + tileK - 1) / tileK;
  for (int64_t at = list * others, stop = at + counts[list]; at < stop; ++at) tiles.push_back(entries[at] >> 1);
  std::sort(tiles.begin(), tiles.end());
  return tiles;
}

int64_t KeptPattern::reach() const {
  int64_t most = 0;
  for (const Keys &keys : sets)
    for (int64_t head = 0; head < headCount; ++head)
      most = std::max<int64_t>(most, keys.bands.empty() ? keys.S : keys.bands[head * 4 + 1] + 1);
  return std::min(most, sets[0].S);
}

std::pair<int64_t, int64_t> KeptPattern::keptKeys() const {
  const auto &[S, bands, counts, entries] = sets[0];
  int64_t first = S, end = 0;
  auto see = [&](int64_t from, int64_t stop) {
    if (from >= stop) return;
    first = std::min(first, from);
    end = std::max(end, stop);
  };
  // A band is of all queries of its head: from the first one's greatest distance to the last one's least.
  for (size_t head = 0; head * 4 < bands.size(); ++head)
    if (const int low = bands[head * 4], high = bands[head * 4 + 1]; low <= high)
      see(std::max<int64_t>(-high, 0), std::min(T - low, S));
  const int64_t others = (S + tileK - 1) / tileK;
  for (size_t list = 0; list < counts.size(); ++list)
    for (int64_t at = static_cast<int64_t>(list) * others, stop = at + counts[list]; at < stop; ++at)
      see((entries[at] >> 1) * tileK, std::min(((entries[at] >> 1) + 1) * tileK, S));
  return {std::min(first, end), end};
}

double KeptPattern::entropy(int64_t head) const {
  const auto &[S, bands, counts, entries] = sets[0];
  const int64_t rows = (T + tileQ - 1) / tileQ, others = (S + tileK - 1) / tileK;
  std::map<int64_t, int64_t> histogram;
  int64_t total = 0;
  auto add = [&](int64_t row, int64_t tile) {
    ++histogram[row * tileQ - tile * tileK];
    ++total;
  };
  for (int64_t row = 0; row < rows; ++row) {
    if (!bands.empty()) {
      const int low = bands[head * 4], high = bands[head * 4 + 1];
      const int64_t first = row * tileQ, last = std::min(first + tileQ, T) - 1;
      const int64_t from = std::max<int64_t>(first - high, 0), to = std::min<int64_t>(last - low, S - 1);
      for (int64_t tile = from / tileK; low <= high && to >= from && tile <= to / tileK; ++tile) add(row, tile);
    } else {
      for (int64_t list = listOf(head, row), at = list * others, end = at + counts[list]; at < end; ++at)
        add(row, entries[at] >> 1);
    }
  }
  double bits = 0;
  for (const auto &[distance, count] : histogram) {
    const double share = static_cast<double>(count) / static_cast<double>(total);
    bits -= share * std::log2(share);
  }
  return bits;
}

}  // namespace weft::ops
