// The least of an input's values at which a selection keeps a given mass: of each head, or of each layer where heads
// share it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "compiler/input_range.h"
#include "models/mass.h"

namespace weft {

/// Values of a dial that are looked at: from `tight`, which keeps least, in equal steps on to what keeps more.
struct DialScale {
  std::string name;
  bool isInt = false, byHead = false;
  double tight = 0, step = 0;
  int64_t steps = 0;
  double at(int64_t position) const { return tight + static_cast<double>(position) * step; }
};

struct SolvedDial {
  DialScale scale;
  std::vector<std::vector<double>> values;  ///< of each layer that of all heads or of each of them
  std::vector<std::vector<bool>> met;       ///< false: the scale ends before the target, and its end is the value
  bool complete = true;                     ///< false after a signal: there are no values
};

struct DialChoice {
  std::string name;
  std::optional<Bounds> range;  ///< to look in
};
/// The input that `given` names (empty: the only one that can be meant), as "share" or "share=0.1..0.9". Throws
/// std::invalid_argument that lists those that can be meant.
DialChoice chosenDial(const MassMeasure &measure, const std::string &given);

/// By bisection the least value whose mean mass over the rows is at least `target`; of floats that are no learned
/// numbers the range widens up to 16-fold where it ends before. What is kept is taken to grow along the scale; where it
/// does not, the value still meets the target and the one a step before it does not.
SolvedDial solveDial(MassMeasure &measure, const DialChoice &dial, double target);
/// For MassMeasure::measure.
DialValues toValues(const DialScale &scale, const std::vector<std::vector<double>> &values);

}  // namespace weft
