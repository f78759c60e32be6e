// How much a call has to do, whoever does it.
#pragma once

#include "ops/kept_pattern.h"

namespace weft::bench {

struct Work {
  double keptShare = 0;  ///< of all tiles of 64 x 64; of 1 x 64 where each query has keys of its own
  double flops = 0;      ///< of the products of those that are kept
};
Work workOf(const ops::Binding &call, const ops::KeptPattern &pattern, bool backward);

}  // namespace weft::bench
