// Products of bf16 tiles in AMX: 16 x 16 f32 sums, 32 products deep an instruction.
//
// tdpbf16ps multiplies rows of A [row][depth] with B in pairs [depth / 2][column][2]. Key-side rows are A
// as they lie in memory; the query side, packed once a tile, and probabilities are B.
#pragma once

#include "compiler/target/emitter.h"

namespace weft::cpu {

using target::Emitter;
using target::Machine;
using target::Value;

class Amx {
 public:
  explicit Amx(Emitter &emit) : emit(emit) {}

  static int64_t roundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

  /// Sets all eight tile registers to 16 rows of 64 bytes, with 64 bytes of scratch for the description.
  void configure(Value scratch);
  void release();

  /// A bf16 matrix for A, or pairs for B: row r begins `r * stride` bytes after base.
  struct Operand {
    Value base, stride;
  };
  /// out[m][n] (+)= sum over k of a[m][k] * b[k / 2][n][k % 2]; rows and columns multiples of 16, depth of 32.
  /// `outStride` counts floats.
  void product(Value out, Value outStride, const Operand &a, const Operand &b, int64_t rows, int64_t columns,
               int64_t depth, bool accumulate);

  /// Rows of a bf16 tensor as A: in place, or copied with zeros to `rows` x `depth` in `memory` where `valid`
  /// rows are fewer or `columns` fill no whole step of depth. `stride` counts elements.
  Operand rows(Value source, Value stride, Value valid, int64_t rows, int64_t columns, Value memory);
  /// The transposed: [column][row] as A, `rows` deep (a multiple of 32), from rows() of the same tensor.
  Operand transposed(const Operand &from, int64_t rows, int64_t columns, Value memory);
  /// The transposed in pairs: [column / 2][row][2] as B, padded with zeros to depth.
  Operand transposedPairs(Value source, Value stride, Value valid, int64_t rows, int64_t columns, Value memory);
  /// [row / 2][column][2] as B; rows past `valid` are zero.
  Operand rowPairs(Value source, Value stride, Value valid, int64_t rows, int64_t columns, Value memory);
  /// f32 [row][column] to [row / 2][column][2] as B; rows past `valid` are zero.
  Operand pairsOf(Value source, Value valid, int64_t rows, int64_t columns, Value memory);
  /// f32 [row][column] to bf16 as A; columns past `valid` are zero.
  Operand halvesOf(Value source, Value valid, int64_t rows, int64_t columns, Value memory);

 private:
  Emitter &emit;

  mlir::Type i16() { return emit.b.getIntegerType(16); }
  mlir::VectorType vector(mlir::Type element, int64_t lanes) { return mlir::VectorType::get({lanes}, element); }
  void call(const char *intrinsic, llvm::ArrayRef<Value> args);
  Value tile(int number);
  Value address(const Operand &operand, Value row, Value byte);
  Value shuffle(Value x, Value y, llvm::ArrayRef<int64_t> lanes);
  Value interleaved(Value even, Value odd);
};

}  // namespace weft::cpu
