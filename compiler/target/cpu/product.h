// Register-blocked f32 products: one side broadcast from memory, the other in vectors.
#pragma once

#include "compiler/target/emitter.h"

namespace weft::cpu {

using target::Emitter;
using target::Machine;
using target::Value;

/// out[r, c] (+)= sum over k of lhs[r * lhsRow + k * lhsStep] * rhs[k * rhsStep + c],
/// r < rows (i64), c < columns, k < depth (i64).
struct Product {
  Value out, outStride;
  Value lhs, lhsRow, lhsStep;
  Value rhs, rhsStep;
  Value rows, depth;
  int64_t columns;
  bool accumulate;
  int blockRows;         ///< rows of a register block: 6, 8 or 12
  bool blocked = false;  ///< sums of 16 terms are added up: a third of the rounding of one after the other, in half the
                         ///< columns at a time
};
void product(Emitter &emit, const Product &p);

}  // namespace weft::cpu
