// What the timing model expects of calls on a GPU that need not be there. Nothing of it is measured.
//
// Predictions (JSON): {"schema": 1, "kind": "predicted", "complete", "gpu": "h200", "product", "architecture", "date",
//   "build", "rows": [{"variant", "B", "H", "T", "D", "dtype", "direction", "span", "code": what was generated,
//   "schedule", "kept_tiles", "flops": of the kept tiles, "predicted_ms", "predicted_tflops": of these flops,
//   "peak_tflops": of the data sheet, "kernels": [{"kernel", "predicted_us", "predicted_bound", "predicted_busy":
//   {pipe: share of its cycles, over the whole kernel}, "predicted_issue", "registers", "warps": on an SM, "spilled":
//   bytes, "from": "SASS" or "PTX", "notes"}]} | {..., "error"}]}
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "benchmarks/peers.h"

namespace weft::bench {

struct PredictionOptions {
  std::string gpu;          ///< as `weft tune --device model:GPU` takes it
  std::vector<Case> cases;  ///< their device is not looked at
  std::function<void(size_t done, size_t total, const std::string &what)> progress;
  std::function<bool()> stop;
  std::function<void(const nlohmann::json &predictions)> save;  ///< after each row: what there is, not complete
};

/// Each case in the code that every GPU gets, and, where the GPU has more, in its own. Throws std::runtime_error that
/// lists the GPUs known.
nlohmann::json predictAll(const PredictionOptions &options);

/// Times as a table for the terminal, each marked as predicted.
std::string predictionTable(const nlohmann::json &predictions);

}  // namespace weft::bench
