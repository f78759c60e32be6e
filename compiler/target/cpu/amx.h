// Products of bf16 tiles in AMX: 16 x 16 f32 sums, 32 products deep an instruction.
//
// tdpbf16ps multiplies rows of A [row][depth] with B in pairs [depth / 2][column][2]. Key-side rows are A
// as they lie in memory; the query side, packed once a tile, and probabilities are B.
//
// Instructions are called by the intrinsics that take numbers of registers. MLIR's dialect amx has those that take
// tiles as values: LLVM then chooses the registers, and describes them in every function that it finds tiles in.
#pragma once

#include "compiler/target/cpu/halves.h"

namespace weft::cpu {

class Amx {
 public:
  explicit Amx(Emitter &emit) : emit(emit) {}

  /// Sets all eight tile registers to 16 rows of 64 bytes, with 64 bytes of scratch for the description.
  void configure(Value scratch);
  void release();
  /// A product that nobody reads, to keep the unit awake: after some 300 ns of other work the next products take 300 ns
  /// more, measured on a Sapphire Rapids.
  void stayAwake();

  /// out[m][n] (+)= sum over k of a[m][k] * b[k / 2][n][k % 2]; rows and columns multiples of 16, depth of 32.
  /// `outStride` counts floats.
  void product(Value out, Value outStride, const HalfOperand &a, const HalfOperand &b, int64_t rows, int64_t columns,
               int64_t depth, bool accumulate);

 private:
  Emitter &emit;

  void call(const char *intrinsic, llvm::ArrayRef<Value> args);
  Value tile(int number);
  Value address(const HalfOperand &operand, Value row, Value byte);
};

}  // namespace weft::cpu
