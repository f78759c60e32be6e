// Tile kernels to vector code for a CPU.
//
// Before: one tile.kernel without weft.map. After: func.func @<kernel>(slots, begin, end, scratch)
// of scf, arith, math, vector and llvm memory operations; it runs programs begin .. end of the grid.
//
// Logits lie transposed, [key][query]: queries fill the lanes of a register. Row maxima and sums are
// then lane-wise, keys and values are broadcast from where they are in memory, and only the query
// side is ever packed, once a query tile.
#pragma once

#include <set>
#include <string>

#include "compiler/compiler.h"
#include "compiler/dialect/dialects.h"
#include "compiler/target/emitter.h"
#include "mlir/IR/BuiltinOps.h"

namespace weft::cpu {

using target::Emitter;
using target::Machine;
using target::Value;

struct LowerOptions {
  Machine machine;
  ElementType type = ElementType::F32;  ///< of the operands of dots, v, o and their gradients
  std::set<std::string> lists = {};     ///< of which keys (their dims) the kept tiles come as lists, not as a band
  Order order = Order::TilesInner;
  int blockRows = 6;
  bool paged = false;  ///< keys lie in pages (see Slots)
};

/// Adds the function to `module` and gives the image, without its code.
KernelImage lowerKernel(mlir::ModuleOp module, tile::KernelOp kernel, const LowerOptions &options);

}  // namespace weft::cpu
