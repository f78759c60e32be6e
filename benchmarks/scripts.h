// The Python parts, built into the program.
#pragma once

namespace weft::bench {

extern const char *const peersScript;       ///< benchmarks/peers.py
extern const char *const reportScript;      ///< benchmarks/report.py: results JSON -> HTML
extern const char *const predictionScript;  ///< benchmarks/predictions.py: predictions JSON -> HTML
extern const char *const decodeCostScript;  ///< benchmarks/decode_cost.py: JSON of weft decode-cost -> HTML
extern const char *const trainingScript;    ///< benchmarks/training_report.py: run folders -> HTML

}  // namespace weft::bench
