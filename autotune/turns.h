// Methods measured in turns, round after round, until the median of each is known or the time for it is spent.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace weft::autotune {

struct Method {
  std::string name;
  std::function<double()> seconds;  ///< of one run. Throws std::exception where it fails: it has no more turns
  std::vector<double> samples;      ///< one a round
  std::string error;                ///< why it has none
};

struct Effort {
  size_t rounds = 9;     ///< at least, where there is time
  double seconds = 0.3;  ///< at least: rounds that all fall into one pause of the machine would agree with each other
  double mostSeconds = 10;  ///< at most, about; three rounds are measured however long they take
  double precision = 0.03;  ///< known: the median's interval is not wider than this to either side
};

enum class TurnsEnd { Known, Spent, Stopped };

/// One round to warm up, then rounds with a sample of each method. `clock` gives seconds; `stop` is asked before each
/// run.
TurnsEnd takeTurns(std::vector<Method> &methods, const Effort &effort, const std::function<double()> &clock,
                   const std::function<bool()> &stop);

}  // namespace weft::autotune
