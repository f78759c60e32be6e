#include "ops/kept_pattern.h"

namespace weft::ops {

static std::vector<int> values(const at::Tensor &tensor) {
  if (!tensor.defined()) return {};
  const at::Tensor here = tensor.cpu();
  return {here.data_ptr<int>(), here.data_ptr<int>() + here.numel()};
}

KeptPattern::KeptPattern(Binding &call)
    : headCount(call.B * call.H), T(call.T), S(call.S), tileQ(call.set.schedule.tileQ), tileK(call.set.schedule.tileK) {
  call.plan();
  bands = values(call.band);
  counts = values(call.counts);
  entries = values(call.entries);
}

KeptPattern::Count KeptPattern::count(int64_t head, int64_t wantQ, int64_t wantK) const {
  Count result;
  auto add = [&](int64_t tiles) {
    result.kept += tiles;
    result.longest = std::max(result.longest, tiles);
  };
  if (!bands.empty()) {
    const int low = bands[head * 4], high = bands[head * 4 + 1];
    for (int64_t first = 0; first < T && low <= high; first += wantQ) {
      const int64_t last = std::min(first + wantQ, T) - 1;
      const int64_t from = std::max<int64_t>(first - high, 0), to = std::min<int64_t>(last - low, S - 1);
      if (to >= from) add(to / wantK - from / wantK + 1);
    }
    return result;
  }
  const int64_t rows = (T + tileQ - 1) / tileQ, others = (S + tileK - 1) / tileK;
  std::vector<char> kept((S + wantK - 1) / wantK);
  for (int64_t first = 0; first < T; first += wantQ) {
    std::fill(kept.begin(), kept.end(), 0);
    for (int64_t row = first / tileQ; row < rows && row * tileQ < first + wantQ; ++row)
      for (int64_t at = (head * rows + row) * others, end = at + counts[head * rows + row]; at < end; ++at) {
        // An entry is twice the tile's number, plus one where the tile is full.
        const int64_t begin = (entries[at] >> 1) * tileK, last = std::min(begin + tileK, S);
        for (int64_t tile = begin / wantK; tile * wantK < last; ++tile) kept[tile] = 1;
      }
    add(std::count(kept.begin(), kept.end(), 1));
  }
  return result;
}

}  // namespace weft::ops
