#include "compiler/target/cpu/pairs.h"

namespace weft::cpu {
namespace {

Value call(Emitter &emit, mlir::Type result, const char *intrinsic, mlir::ValueRange arguments) {
  return mlir::LLVM::CallIntrinsicOp::create(emit.b, emit.loc, result, emit.b.getStringAttr(intrinsic), arguments)
      .getResult(0);
}

/// A register as SVE's instructions take it: of a length that only the machine knows, though the code knows it, too.
/// Through `element`, of 32 bits: LLVM moves fixed vectors of bf16 through memory.
Value scalable(Emitter &emit, Value fixed, mlir::Type element, mlir::VectorType type) {
  const auto words = mlir::VectorType::get({4}, element, {true});
  fixed = mlir::LLVM::BitcastOp::create(emit.b, emit.loc, emit.vectorOf(element), fixed);
  Value nothing = mlir::LLVM::PoisonOp::create(emit.b, emit.loc, words);
  Value own = mlir::LLVM::vector_insert::create(emit.b, emit.loc, words, nothing, fixed, 0);
  return words == type ? own : mlir::LLVM::BitcastOp::create(emit.b, emit.loc, type, own);
}

Value interleaved(Emitter &emit, Value even, Value odd) {
  const int64_t lanes = mlir::cast<mlir::VectorType>(even.getType()).getNumElements();
  llvm::SmallVector<int64_t> order;
  for (int64_t at = 0; at < lanes; ++at) order.append({at, lanes + at});
  return mlir::vector::ShuffleOp::create(emit.b, emit.loc, even, odd, order);
}

}  // namespace

Value dotOfPairs(Emitter &emit, Value sum, Value x, Value y) {
  return call(emit, emit.floats(), "llvm.x86.avx512bf16.dpbf16ps.512", {sum, x, y});
}

Value matrixOfFours(Emitter &emit, Value sum, Value rows, Value columns) {
  if (!emit.machine.scalable) return call(emit, emit.floats(), "llvm.aarch64.neon.bfmmla", {sum, rows, columns});
  const auto floats = mlir::VectorType::get({4}, emit.b.getF32Type(), {true});
  const auto halves = mlir::VectorType::get({8}, emit.b.getBF16Type(), {true});
  mlir::Type word = emit.b.getI32Type();
  Value next = call(emit, floats, "llvm.aarch64.sve.bfmmla",
                    {scalable(emit, sum, emit.b.getF32Type(), floats), scalable(emit, rows, word, halves),
                     scalable(emit, columns, word, halves)});
  return mlir::LLVM::vector_extract::create(emit.b, emit.loc, emit.floats(), next, 0);
}

Value roundedPairs(Emitter &emit, Value even, Value odd) {
  mlir::Type bf16 = emit.b.getBF16Type();
  if (emit.machine.avx512 && emit.machine.roundsToBf16) {
    // One instruction rounds two registers, the second into the lower half.
    mlir::Type type = mlir::VectorType::get({32}, bf16);
    Value both = call(emit, type, "llvm.x86.avx512bf16.cvtne2ps2bf16.512", {odd, even});
    llvm::SmallVector<int64_t> pairs;
    for (int64_t at = 0; at < 16; ++at) pairs.append({at, 16 + at});
    return mlir::vector::ShuffleOp::create(emit.b, emit.loc, both, both, pairs);
  }
  auto rounded = [&](Value x) -> Value {
    return mlir::arith::TruncFOp::create(emit.b, emit.loc, emit.vectorOf(bf16), x);
  };
  return interleaved(emit, rounded(even), rounded(odd));
}

}  // namespace weft::cpu
