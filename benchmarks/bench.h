// Measures generated kernels beside their peers in one run.
//
// Results (JSON): {"schema": 1, "device", "torch", "threads", "build", "date", "peak_gflops": {type: GFLOP/s of a large
// matrix product}, "bandwidth_gbs": of a large copy, "rows": [{"variant", "B", "H", "T", "D", "dtype", "direction", "span",
//   "kept_tiles": share of all tiles, "flops": of the kept tiles, "bytes": of operands and results once, "error": against
//   float64 relative to the largest value (at T = 192), "compile_s": all kernels of the pass, nothing cached,
//   "peak_mib": added to the process, "results": {"weft" | peer: {"ms": median, "low", "high": quartiles, "samples", "gflops"} |
//   {"error": why not}}}], "masks": {variant: 64 x 64 shares, each row relative to its largest},
//   "tuning": the schedule cache's entries of these variants}
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "benchmarks/peers.h"

namespace weft::bench {

struct BenchOptions {
  std::vector<Case> cases;
  std::vector<std::string> peers;
  int samples = 9;              ///< rounds, fewer where a round takes long
  double rowSeconds = 10;       ///< at most, about, for the rounds of a row
  std::function<void(size_t done, size_t total, const std::string &what)> progress;
  std::function<bool()> stop;
};

/// What was measured until the end or until `stop` said so. A row that fails holds its error.
nlohmann::json runBench(const BenchOptions &options);

/// Rows of `now` slower than those of `before` beyond the spread of both and 5 %, as lines; empty: none. `now` and
/// `before` are results of runBench. Throws std::runtime_error where they are not.
std::vector<std::string> regressions(const nlohmann::json &before, const nlohmann::json &now);

/// Times as a table for the terminal.
std::string table(const nlohmann::json &results);

}  // namespace weft::bench
