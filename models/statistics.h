// What a model's heads do: kept tiles, spans, periods, masks.
#pragma once

#include <string>
#include <vector>

#include "models/gpt.h"

namespace weft {

struct HeadStatistics {
  int64_t layer, head;
  std::map<std::string, double> learned;  ///< span, period, ratio where the variant has them
  double keptTiles;                       ///< share of the tiles of a dense [T, T] kernel
  double entropy;                         ///< bits: over which distances the kept tiles spread
};

std::vector<HeadStatistics> headStatistics(Gpt &model, const torch::Tensor &tokens);
/// Keys with a weight above 0 that a query of each head sees, the mean over queries; layer by layer.
std::vector<double> unmaskedKeys(Gpt &model, const torch::Tensor &tokens);
double meanKept(const std::vector<HeadStatistics> &heads);
double meanOf(const std::vector<HeadStatistics> &heads, const std::string &name, double otherwise);

/// An SVG page of every head's mask: share of the probability with all scores equal, row by row
/// relative to the row's largest.
std::string maskPicture(Gpt &model, const torch::Tensor &tokens);

}  // namespace weft
