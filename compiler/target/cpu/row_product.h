// Products of a tile of which few queries are there: each goes through the keys alone, and what fills the lanes is a
// row of a key, as it lies in its tensor. The tile's layout is that of other products, queries in the lanes.
#pragma once

#include "compiler/target/emitter.h"

namespace weft::cpu {

using target::Emitter;
using target::Value;

struct RowProduct {
  Value out;               ///< [row][tileQ]: rows are keys, or columns of values
  int64_t tileQ;           ///< multiple of the lanes
  Value queries;           ///< of the tile that are there, i64
  Value rows, stride;      ///< of keys, and elements from one to the next, i64
  Value keys;              ///< of the tile that are there, at least 1, i64
  int64_t tileK, columns;  ///< keys of a whole tile, a multiple of the lanes; elements of a row
  ElementType type;        ///< of the rows
  bool accumulate;         ///< adds to out; else queries that are not there become 0
};

/// out[j][i] (+)= dot(query i, row j). Rows of queries are in f32 (f64 in kernels of that), `queryStride` elements
/// apart.
void dotRows(Emitter &emit, const RowProduct &p, Value queryRows, Value queryStride);
/// out[e][i] (+)= sum over j of weights[j][i] * rows[j][e]; weights [key][tileQ].
void sumRows(Emitter &emit, const RowProduct &p, Value weights);

}  // namespace weft::cpu
