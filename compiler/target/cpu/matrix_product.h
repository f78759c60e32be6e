// Products of pairs of bf16 in the instructions that multiply two rows of four terms with two columns of them, in each
// 128 bits of a register (Arm's bfmmla).
#pragma once

#include "compiler/target/cpu/product.h"

namespace weft::cpu {

/// A register block of a product of pairs: `blockRows` rows from `row` on and `vectors` registers of columns from
/// `column` on.
void matrixBlock(Emitter &emit, const Product &p, Value row, int blockRows, Value column, int vectors);

}  // namespace weft::cpu
