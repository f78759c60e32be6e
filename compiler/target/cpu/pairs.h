// Pairs and fours of bf16, in the instructions that a CPU has for them.
#pragma once

#include "compiler/target/emitter.h"

namespace weft::cpu {

using target::Emitter;
using target::Value;

/// Lane by lane sum + x[2 l] * y[2 l] + x[2 l + 1] * y[2 l + 1]; x and y are vectors of bf16 of twice the lanes. On
/// machines whose `pairs` is Dots.
Value dotOfPairs(Emitter &emit, Value sum, Value x, Value y);
/// In each 128 bits sum[i, j] + the sum over c of rows[i, c] * columns[j, c]: i, j < 2, c < 4; rows and columns are
/// vectors of bf16 of twice the lanes. On machines whose `pairs` is Matrices.
Value matrixOfFours(Emitter &emit, Value sum, Value rows, Value columns);
/// A register of floats each to bf16, even[0] odd[0] even[1] odd[1] ..., vectors of twice the lanes.
Value roundedPairs(Emitter &emit, Value even, Value odd);

}  // namespace weft::cpu
