// Register-blocked products of f32, or of pairs of bf16: one side broadcast from memory, the other in vectors.
#pragma once

#include "compiler/target/emitter.h"

namespace weft::cpu {

using target::Emitter;
using target::Machine;
using target::Value;

/// out[r, c] (+)= sum over k of lhs[r * lhsRow + k * lhsStep] * rhs[k * rhsStep + c],
/// r < rows (i64), c < columns, k < depth (i64). Of pairs an element of lhs and rhs is two bf16 that lie side by side,
/// and both their products are added; but lhsRow counts single ones, and c is in whole registers.
struct Product {
  Value out, outStride;
  Value lhs, lhsRow, lhsStep;
  Value rhs, rhsStep;
  Value rows, depth;
  int64_t columns;
  bool accumulate;
  int blockRows;         ///< rows of a register block: 6, 8 or 12
  bool blocked = false;  ///< sums of 16 terms are added up: a third of the rounding of one after the other, at the cost
                         ///< of half the registers, or of memory
  bool pairs = false;
};
void product(Emitter &emit, const Product &p);

}  // namespace weft::cpu
