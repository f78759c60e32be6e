// Measures generated kernels beside their peers in one run. The results are those of benchmarks/results.h.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "autotune/turns.h"
#include "benchmarks/peers.h"

namespace weft::bench {

struct BenchOptions {
  std::vector<Case> cases;
  std::vector<std::string> peers;
  autotune::Effort effort;  ///< of each row
  std::function<void(size_t done, size_t total, const std::string &what)> progress;
  double peerSeconds = 300;  ///< for an answer of a peer in a process of its own
  std::function<bool()> stop;
  std::function<void(const nlohmann::json &results)>
      save;  ///< before the first row and after each: what there is, not complete
};

/// What was measured until the end or until `stop` said so. A row that fails holds its error; one that was stopped is
/// left out.
nlohmann::json runBench(const BenchOptions &options);

}  // namespace weft::bench
