// The two dialects' C++ classes.
#pragma once

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/LoopLikeInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "compiler/dialect/WeftDialect.h.inc"
#define GET_OP_CLASSES
#include "compiler/dialect/WeftOps.h.inc"

namespace weft::tile {
/// Rows of a block of tile.flat_dots.
inline constexpr int flatBlock = 32;
}  // namespace weft::tile

#include "compiler/dialect/TileDialect.h.inc"
#define GET_OP_CLASSES
#include "compiler/dialect/TileOps.h.inc"
