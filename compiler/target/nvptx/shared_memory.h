// How much shared memory a kernel's blocks take, without generating their code.
//
// Follows the lowering (lower_kernel.cpp) in what it puts into shared memory: operands where they are loaded, streamed
// ones once a stage, tiles that all warps multiply with; what a loop over kept tiles took is free again after it.
#pragma once

#include "compiler/compiler.h"
#include "compiler/dialect/dialects.h"

namespace weft::nvptx {

/// Bytes from row to row of a tile in shared memory (see SharedTile).
int64_t sharedPitch(int64_t columns, ElementType type);
/// Of a tile.kernel whose loads are placed.
int64_t sharedBytesOf(tile::KernelOp kernel);

}  // namespace weft::nvptx
