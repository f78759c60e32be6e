// What a declaration says of an input's values, as in `period: [H] in 2 .. 8 typical 4`.
#pragma once

#include <map>
#include <optional>
#include <string>

namespace weft {

/// `dim / divisor + offset`, without a dim `offset` alone.
struct Bound {
  std::string dim;
  double divisor = 1, offset = 0;

  /// For a call of these sizes. A dim that is not among them counts as 1.
  double at(const std::map<std::string, int64_t> &sizes) const;
  bool operator==(const Bound &) const = default;
};

/// From `low` to `high`, both included.
struct Bounds {
  double low, high;
};

/// Values that make sense, for samples, tests, models and people. Kernels compute with what they are given: nothing is
/// clamped, and no analysis relies on it, so that a value outside has the meaning that the formulas give it.
struct InputRange {
  std::optional<Bound> low, high;                ///< none: that side is open
  std::optional<Bound> typicalLow, typicalHigh;  ///< both or none
  bool rising = false;                           ///< along the last dim values do not fall, as numbers of documents do

  /// For a call of these sizes; an open side is infinite. Never empty: where sizes are so small that the sides cross,
  /// the upper one gives way.
  Bounds bounds(const std::map<std::string, int64_t> &sizes) const;
  /// What samples are drawn from: the typical values, as far as the range has them, else the range; 1 wide where one
  /// side is open, nothing where both are.
  std::optional<Bounds> typical(const std::map<std::string, int64_t> &sizes) const;
  bool empty() const { return !low && !high && !typicalLow && !rising; }
};

/// As it is declared: "in 2 .. 8 typical 4"; the empty string where nothing is.
std::string print(const InputRange &range);

}  // namespace weft
