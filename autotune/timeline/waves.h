// Blocks over the SMs of a chip: each SM runs as many as it has room for, and takes the next when one ends.
#pragma once

#include <vector>

namespace weft::timeline {

/// When the last of the blocks, launched in this order, ends. `work`: of each, in cycles that it takes while its SM is
/// full; with fewer on the SM all of them run faster: `speeds[n - 1]` times as fast with n.
double wavesCycles(const std::vector<double> &work, int units, const std::vector<double> &speeds);

}  // namespace weft::timeline
