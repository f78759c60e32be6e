// The `cpu` dialect's C++ classes.
#pragma once

#include "compiler/dialect/dialects.h"

#include "compiler/dialect/CpuDialect.h.inc"
#include "compiler/dialect/CpuEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "compiler/dialect/CpuAttributes.h.inc"
#define GET_OP_CLASSES
#include "compiler/dialect/CpuOps.h.inc"

namespace weft::cpu {

/// Of an operation: where its results lie in the thread's scratch, in bytes, an i64 each, set by assign-scratch.
inline constexpr const char *places = "cpu.places";
/// Of a tile.kernel: bytes of scratch that a thread takes, an i64, set by assign-scratch.
inline constexpr const char *scratchBytes = "cpu.scratch_bytes";

/// None where a tile has none yet.
std::optional<Layout> layoutOf(mlir::Type tile);
/// The tile's type in another layout and, where they are given, of other elements and columns.
mlir::RankedTensorType withLayout(mlir::Type tile, Layout layout, mlir::Type element = {}, int64_t columns = 0);

/// True where any of a kernel's products is AMX's.
bool usesAmx(tile::KernelOp kernel);

enum class Side { Left, Right };
/// How a kind of product takes one of its sides.
struct Taken {
  Layout layout;  ///< strided: rows will do as well
  bool half;      ///< bf16; else f32
  int64_t step;   ///< terms that are multiplied at a time: columns of rows and of column pairs come in whole steps
  bool stored = false;  ///< in the type that they have in their tensor
};
Taken taken(ProductKind kind, tile::DotForm form, Side side);

}  // namespace weft::cpu
