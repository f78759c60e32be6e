// Tile kernels to the code of one thread of a CTA.
//
// Before: one tile.kernel without weft.map, its loads placed. After: llvm.func @<kernel>(slots), an nvvm kernel of scf,
// arith, math and llvm operations: operands in shared memory, fragments of tiles in registers. A program is a CTA; in
// planning kernels a program is a thread.
#pragma once

#include <set>
#include <string>

#include "compiler/compiler.h"
#include "compiler/dialect/dialects.h"
#include "compiler/target/emitter.h"
#include "mlir/IR/BuiltinOps.h"

namespace weft::nvptx {

using target::Emitter;
using target::Value;

struct LowerOptions {
  ElementType type = ElementType::F32;  ///< of the operands of dots, v, o and their gradients
  std::set<std::string> lists = {};     ///< of which keys (their dims) the kept tiles come as lists, not as a band
  Order order = Order::HeadsInner;
  bool paged = false;  ///< keys lie in pages (see Slots)
};

/// Adds the function to `module` and gives the image, without its code.
KernelImage lowerKernel(mlir::ModuleOp module, tile::KernelOp kernel, const LowerOptions &options);

}  // namespace weft::nvptx
