// The order that an assembler would give instructions: PTX has them as they were written.
#pragma once

#include "autotune/timeline/pipes.h"

namespace weft::timeline {

/// List scheduling of what lies between two barriers or waits: of what has its operands, first what most latency hangs
/// on. As if there were registers enough.
std::vector<Step> reorder(const std::vector<Step> &steps, int registers);

}  // namespace weft::timeline
