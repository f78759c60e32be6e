// Rows of tensors to shared memory by threads; asynchronous (cp.async), all but what is too narrow for that.
#pragma once

#include <string>

#include "compiler/target/emitter.h"

namespace weft::nvptx {

using target::Value;

struct KernelCode;
struct SharedTile;

/// Those that copy, by their numbers (i32) from 0 on.
struct Threads {
  Value number;
  int64_t count;
  bool few = false;  ///< registers: one chunk after another in a loop
};

/// Rows `index` tiles from the first of [batch, head, rows, columns] of a tensor. All i64.
struct Rows {
  std::string tensor;
  Value batch, head, index;
};

/// True where cp.async copies all of a tile: of rows too narrow for it threads do.
bool copiesByThemselves(const SharedTile &tile);
/// Rows past the end are zero.
void copyTile(KernelCode &code, const Threads &by, const Rows &from, const SharedTile &to);
void clearTile(KernelCode &code, const Threads &by, const SharedTile &to);
/// One f32 a query; those past the end are `fill`.
void copyNumbers(KernelCode &code, const Threads &by, const Rows &from, double fill, const SharedTile &to);

}  // namespace weft::nvptx
