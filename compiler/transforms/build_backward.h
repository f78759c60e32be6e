// The backward kernels, in one pass or in two; see build_kernels.h.
//
// Before: weft.pairwise @backward. After: tile.kernel @backward, @backward_dq or @backward_dkdv.
#pragma once

#include "compiler/transforms/kernel_builder.h"

namespace weft {

/// All gradients in one pass: queries outside, kept keys inside, dk and dv added up in memory.
void buildBackward(KernelBuilder &builder);
/// Those of the query side.
void buildBackwardQueries(KernelBuilder &builder);
/// Those of the keys that `keyDim` counts.
void buildBackwardKeys(KernelBuilder &builder, llvm::StringRef keyDim);

}  // namespace weft
