// The backward kernels, in one pass or in two; see build_kernels.h.
//
// Before: weft.pairwise @backward. After: tile.kernel @backward, @backward_queries, @backward_keys, @backward_sink,
// @backward_dq or @backward_dkdv.
#pragma once

#include "compiler/transforms/kernel_builder.h"

namespace weft {

/// All gradients in one pass: queries outside, kept keys inside, dk and dv added up in memory.
void buildBackward(KernelBuilder &builder);
/// The same for one tile of queries, beside the programs of others: dk and dv are added atomically.
void buildBackwardByQueries(KernelBuilder &builder);
/// All that the keys that `keyDim` counts have a part in, for one tile of them: dk and dv are its own, dq is added
/// atomically, as are the sums of small inputs.
void buildBackwardByKeys(KernelBuilder &builder, llvm::StringRef keyDim);
/// The sink's, beside those.
void buildSinkBackward(KernelBuilder &builder);
/// Those of the query side.
void buildDq(KernelBuilder &builder);
/// Those of the keys that `keyDim` counts.
void buildDkDv(KernelBuilder &builder, llvm::StringRef keyDim);

}  // namespace weft
