// Operands of products of bf16, by AMX or of pairs in vector registers: both multiply rows of A [row][depth] with B in
// pairs [depth / 2][column][2].
//
// Key-side rows are A as they lie in memory; the query side, packed once a tile, and probabilities are B.
#pragma once

#include "compiler/target/emitter.h"

namespace weft::cpu {

using target::Emitter;
using target::Machine;
using target::Value;

/// A, or B: row r begins `r * stride` bytes after base.
struct HalfOperand {
  Value base, stride;
};

class Halves {
 public:
  explicit Halves(Emitter &emit) : emit(emit) {}

  // Operands, from rows of which the first `valid` are there, `stride` elements apart; those past them become zero.
  /// Rows as A, with their stride: in place, or copied to `memory`, [row][depth], where rows are missing or `depth`, of
  /// whole steps, is more than the columns.
  std::pair<Value, Value> padded(Value source, Value stride, Value valid, int64_t rows, int64_t columns, int64_t depth,
                                 Value memory);
  /// [column][row] as A, from what padded() gives; `rows` are multiples of 32.
  void columns(Value source, Value stride, int64_t rows, int64_t columns, Value memory);
  /// [column / 2][row][2] as B; columns from there to `depth` are zero.
  void columnPairs(Value source, Value stride, Value valid, int64_t rows, int64_t columns, int64_t depth, Value memory);
  /// [row / 2][column][2] as B.
  void rowPairs(Value source, Value stride, Value valid, int64_t rows, int64_t columns, Value memory);
  // From f32 [row][column].
  /// [row / 2][column][2] as B; rows past `valid` are zero.
  void roundPairs(Value source, Value valid, int64_t rows, int64_t columns, Value memory);
  /// [row][column] as A; columns past `valid` are zero.
  void round(Value source, Value valid, int64_t rows, int64_t columns, Value memory);

 private:
  Emitter &emit;

  mlir::Type i16() { return emit.b.getIntegerType(16); }
  mlir::VectorType vector(mlir::Type element, int64_t lanes) { return mlir::VectorType::get({lanes}, element); }
  Value shuffle(Value x, Value y, llvm::ArrayRef<int64_t> lanes);
  Value interleaved(Value even, Value odd);
  Value unpacked(Value x, Value y, bool high);
};

}  // namespace weft::cpu
