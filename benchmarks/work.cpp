#include "benchmarks/work.h"

namespace weft::bench {

Work workOf(const ops::Binding &call, const ops::KeptPattern &pattern, bool backward) {
  constexpr int64_t tile = 64;
  // Of the products of a backward pass to those of a forward one: five to two.
  constexpr double backwardShare = 2.5;
  double kept = 0, all = 0, width = 0;
  const int64_t rows = pattern.rowsOf(tile), queries = rows == call.T ? 1 : tile;
  for (int64_t head = 0; head < pattern.heads(); ++head) {
    kept += static_cast<double>(pattern.count(head, tile, tile).kept);
    all += static_cast<double>(rows * ((call.S + tile - 1) / tile));
  }
  for (const InputInfo &input : call.set.variant->inputs())
    if (input.isRow && (input.querySide || input.name == "v"))
      width += static_cast<double>(call.set.headDims.at(input.dims.back()));
  return {kept / all, kept * static_cast<double>(queries * tile) * 2 * width * (backward ? backwardShare : 1)};
}

}  // namespace weft::bench
