// Makes a kernel stand alone: what it reads and writes is declared in it.
//
// Before: a tile.kernel whose operations name tensors, and whose sums (weft.accumulate) name inputs.
// After: a tile.tensor for each name, with its element type and dims; sums name gradients; loops over kept tiles name
// the tensors that say which those are; what keys a list names is an attribute. Nothing beside the kernel is needed any
// more.
#pragma once

#include "compiler/dialect/dialects.h"
#include "compiler/transforms/build_kernels.h"

namespace weft {

/// `paged`: keys lie in pages. Throws InternalError for a name that nothing has.
void declareTensors(mlir::ModuleOp module, tile::KernelOp kernel, const KernelShape &shape, bool paged);

}  // namespace weft
