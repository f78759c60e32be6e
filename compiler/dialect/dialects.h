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

#include "compiler/language/ast.h"

#include "compiler/dialect/WeftDialect.h.inc"
#include "compiler/dialect/WeftEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "compiler/dialect/WeftAttributes.h.inc"
#define GET_OP_CLASSES
#include "compiler/dialect/WeftOps.h.inc"

namespace weft::dialect {
/// What floats of the kernel at hand are: f32, or f64 where its rows are.
mlir::FloatType realType(mlir::MLIRContext *context);
/// Of a scalar, or of an element: a float that arithmetic is done in.
inline bool isReal(mlir::Type type) { return type.isF32() || type.isF64(); }
/// The number, f32, f64 or i32, that a value is known to be.
std::optional<double> constantOf(mlir::Value value);
/// The bool that a value is known to be.
std::optional<bool> boolOf(mlir::Value value);
}  // namespace weft::dialect

namespace weft::tile {
/// Of a loop whose turns are independent (see TileOps.td).
inline constexpr const char *independentTurns = "tile.independent";
}  // namespace weft::tile

#include "compiler/dialect/TileDialect.h.inc"
#include "compiler/dialect/TileEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "compiler/dialect/TileAttributes.h.inc"
#define GET_OP_CLASSES
#include "compiler/dialect/TileOps.h.inc"

namespace weft::tile {
/// Whether a product of the form of tiles of these shapes has the result's shape.
bool fits(DotForm form, llvm::ArrayRef<int64_t> lhs, llvm::ArrayRef<int64_t> rhs, llvm::ArrayRef<int64_t> result);
}  // namespace weft::tile
