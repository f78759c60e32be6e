// What `weft bench` writes, says of it, and compares it with.
//
// Results (JSON): {"schema": 2, "complete": false while rows are missing (measuring, or stopped), "device", "torch",
// "threads",
//   "build", "date", "peak_gflops": {type: GFLOP/s}, "peak_of": {type: what reached it}, "bandwidth_gbs",
//   "bandwidth_of": what reached it, "rows": [{"variant", "B", "H", "T", "D", "dtype", "direction", "span",
//   "kept_tiles": share of all tiles, "flops": of the kept tiles, "bytes": of operands and results once, "error":
//   against float64 relative to the largest value (at T = 192), "compile_s": all kernels of the pass, nothing cached,
//   "peak_mib": added to the process, "results": {"weft" | peer:
//   {"ms": median, "low", "high": where it lies with 95 % (of fewer than six samples: their least and greatest),
//   "quartiles": [first, third], "samples", "known": within 3 %, "gflops", of a peer also "ratio": {"value": median
//   over the rounds of its time over Weft's, "low", "high", "verdict": "faster", "slower", "same" or "unknown", of
//   Weft}} | {"error": why not}}}], "masks": {variant: 64 x 64 shares, each row relative to its largest}, "tuning": the
//   schedule cache's entries of these variants}. Schema 1 had quartiles as "low" and "high", and no ratios.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "autotune/turns.h"

namespace weft::bench {

constexpr double knownWithin = 0.03;

/// "results" of a row: its methods, of which the one named "weft" is ours, after their turns. `flops` of one run.
nlohmann::json summary(const std::vector<autotune::Method> &methods, double flops);

struct Comparison {
  std::vector<std::string> regressions;  ///< rows slower beyond the intervals of both and 5 %, or that fail now
  std::vector<std::string> unsure;       ///< rows that look more than 5 % slower, but whose intervals do not say so
  std::vector<std::string> notes;        ///< what else differs: the machine, rows that only one has
  size_t compared = 0;
};
/// Throws std::runtime_error where these are no results, or have no row in common.
Comparison compare(const nlohmann::json &before, const nlohmann::json &now);

/// "2026-01-31 23:59", by the clock of this place.
std::string now();

/// Times as a table for the terminal.
std::string table(const nlohmann::json &results);

}  // namespace weft::bench
