// A model of a schedule's time, from the tiles it keeps, its arithmetic, its bytes and its registers. It only ranks:
// which schedules to measure first. How well it ranked is part of every tuning report.
#pragma once

#include <map>

#include "ops/kept_pattern.h"
#include "runtime/schedule_cache.h"

namespace weft::autotune {

class Model {
 public:
  /// `clockGhz` of the CPU; a GPU counts with the clock of its kind.
  Model(const ops::Binding &call, const ops::KeptPattern &pattern, bool backward, double clockGhz);
  /// Seconds of one pass.
  double predict(const Schedule &schedule);

 private:
  struct Tiles {
    double all = 0, longest = 0;  ///< kept tiles of all heads, of the longest row
    double rows = 0;              ///< rows of tiles of all heads
  };
  const ops::Binding &call;
  const ops::KeptPattern &pattern;
  const bool backward;
  const double clockGhz;
  double d = 0, e = 0;  ///< widths of dots with q and k, of v
  CpuFacts facts;
  bool amx = false, pairs = false;
  double firstCache = 0, secondCache = 0;  ///< bytes of L1 and L2 of a core
  std::map<std::pair<int, int>, Tiles> tilesBySize;

  const Tiles &tiles(int tileQ, int tileK);
  double productCycles(double rows, double columns, double depth, int blockRows) const;
  double cpuCycles(const Schedule &schedule, double tileQ, double tileK, bool fused) const;
  double gpuSeconds(const Schedule &schedule, const Tiles &kept, BackwardForm form) const;
};

/// Every schedule worth considering (see searchSpace), the default first, then by what the model says.
std::vector<TuningPoint> countedSpace(const ops::Binding &call, const ops::KeptPattern &pattern, bool backward,
                                      double clockGhz);
/// All but the first, the default.
void sortByPrediction(std::vector<TuningPoint> &points);

}  // namespace weft::autotune
