// Kernels that bound the loops over kept tiles, by interval analysis of `@forward`.
//
// Before: weft.pairwise @forward. After: tile.kernel @plan_band, or @plan_lists (by query tile) and
// @plan_lists_keys (by key tile).
//
// band: every mask is monotone in d = i - j, so head h keeps exactly d in [lo, hi]; the kernel finds
// both ends by bisection with the kernel's own arithmetic. lists: each tile's box of (i, j) is
// classified with intervals as empty, full or partial. Of other keys than v's the names end in their dim: @plan_band.N.
#pragma once

#include "compiler/transforms/build_kernels.h"

namespace weft {

enum class PlanForm { Band, Lists };

/// Of the keys that `keyDim` counts.
PlanForm planForm(mlir::ModuleOp module, const std::string &keyDim);
void buildPlan(mlir::ModuleOp module, const std::string &kernel, const KernelShape &shape);

}  // namespace weft
