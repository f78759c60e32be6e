// Products of bf16 tiles in AMX: 16 x 16 f32 sums, 32 products deep an instruction.
//
// tdpbf16ps multiplies rows of A [row][depth] with B in pairs [depth / 2][column][2]. Key-side rows are A
// as they lie in memory; the query side, packed once a tile, and probabilities are B.
//
// Instructions are called by the intrinsics that take numbers of registers. MLIR's dialect amx has those that take
// tiles as values: LLVM then chooses the registers, and describes them in every function that it finds tiles in.
#pragma once

#include "compiler/target/emitter.h"

namespace weft::cpu {

using target::Emitter;
using target::Machine;
using target::Value;

class Amx {
 public:
  explicit Amx(Emitter &emit) : emit(emit) {}

  /// Sets all eight tile registers to 16 rows of 64 bytes, with 64 bytes of scratch for the description.
  void configure(Value scratch);
  void release();
  /// A product that nobody reads, to keep the unit awake: after some 300 ns of other work the next products take 300 ns
  /// more, measured on a Sapphire Rapids.
  void stayAwake();

  /// A bf16 matrix for A, or pairs for B: row r begins `r * stride` bytes after base.
  struct Operand {
    Value base, stride;
  };
  /// out[m][n] (+)= sum over k of a[m][k] * b[k / 2][n][k % 2]; rows and columns multiples of 16, depth of 32.
  /// `outStride` counts floats.
  void product(Value out, Value outStride, const Operand &a, const Operand &b, int64_t rows, int64_t columns,
               int64_t depth, bool accumulate);

  // Operands, from rows of which the first `valid` are there, `stride` elements apart; those past them become zero.
  /// Rows as A, with their stride: in place, or copied to `memory`, [row][columns up to whole steps of depth], where
  /// rows are missing or steps not whole.
  std::pair<Value, Value> padded(Value source, Value stride, Value valid, int64_t rows, int64_t columns, Value memory);
  /// [column][row] as A, from what padded() gives; `rows` are whole steps of depth.
  void columns(Value source, Value stride, int64_t rows, int64_t columns, Value memory);
  /// [column / 2][row][2] as B, columns up to whole steps of depth.
  void columnPairs(Value source, Value stride, Value valid, int64_t rows, int64_t columns, Value memory);
  /// [row / 2][column][2] as B.
  void rowPairs(Value source, Value stride, Value valid, int64_t rows, int64_t columns, Value memory);
  // From f32 [row][column].
  /// [row / 2][column][2] as B; rows past `valid` are zero.
  void roundPairs(Value source, Value valid, int64_t rows, int64_t columns, Value memory);
  /// [row][column] as A; columns past `valid` are zero.
  void round(Value source, Value valid, int64_t rows, int64_t columns, Value memory);

 private:
  Emitter &emit;

  /// Whole steps of depth.
  static int64_t depthOf(int64_t columns) { return (columns + 31) / 32 * 32; }

  mlir::Type i16() { return emit.b.getIntegerType(16); }
  mlir::VectorType vector(mlir::Type element, int64_t lanes) { return mlir::VectorType::get({lanes}, element); }
  void call(const char *intrinsic, llvm::ArrayRef<Value> args);
  Value tile(int number);
  Value address(const Operand &operand, Value row, Value byte);
  Value shuffle(Value x, Value y, llvm::ArrayRef<int64_t> lanes);
  Value interleaved(Value even, Value odd);
  Value unpacked(Value x, Value y, bool high);
};

}  // namespace weft::cpu
