// What the runtime has to know of a kernel, written into the IR by the pass that lowers it: `weft.image` of its
// function.
#pragma once

#include "compiler/kernel_image.h"
#include "mlir/IR/BuiltinOps.h"

namespace weft::target {

/// `image` without its code.
void describeImage(mlir::Operation *function, const KernelImage &image);
/// Of the one function of `module` that has an image. Throws InternalError where none has.
KernelImage imageOf(mlir::ModuleOp module);

}  // namespace weft::target
