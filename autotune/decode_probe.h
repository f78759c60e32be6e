// This CPU's figures for decode_cost.h, measured: what reading takes, and what a variant's kernels take while all they
// read is in a cache. Everything that is compared is measured in turns, so that what slows the machine slows all of it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autotune/decode_cost.h"

namespace weft::autotune {

/// One variant's measured kernels, and how much a tile of them is of the peak.
struct DecodeProbe {
  DecodeKernel kernel;
  double shareOfPeak = 0;
};

/// The CPU without bandwidths.
DecodeMachine cpuMachine(const std::string &type);

/// Bandwidths of reading from 256 KiB to 256 MiB, by rising bytes.
std::vector<std::pair<double, double>> measureBandwidth(const std::function<bool()> &stop);
/// Of calls of this shape: its lengths are the probe's own.
DecodeProbe probeDecoding(const std::string &variant, const DecodeShape &shape, const DecodeMachine &machine,
                          const std::function<bool()> &stop);

/// A call measured, and predicted by what was measured in the same turns.
struct DecodeCheck {
  DecodeCount count;
  double measured = 0, predicted = 0;  ///< seconds
  DecodeKernel kernel;                 ///< by which it was predicted
  double uncertainty = 0;              ///< of the median of what is measured: see samples.h
  double bandwidth = 0;                ///< bytes/s of reading as many bytes as the call
};
/// Seconds are those of the clock or, on one thread, those that the thread has run: what else runs then counts less.
/// All are the least of the turns.
DecodeCheck checkDecoding(const std::string &variant, const DecodeShape &shape, DecodeMachine machine,
                          const std::function<bool()> &stop);

}  // namespace weft::autotune
