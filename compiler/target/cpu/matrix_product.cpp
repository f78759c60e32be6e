#include "compiler/target/cpu/matrix_product.h"

#include "compiler/target/cpu/pairs.h"

namespace weft::cpu {
namespace {

namespace vector = mlir::vector;

/// Of two vectors the lower or the upper halves, element by element (zip1, zip2).
Value zipped(Emitter &emit, Value x, Value y, bool upper) {
  const int64_t count = mlir::cast<mlir::VectorType>(x.getType()).getNumElements();
  llvm::SmallVector<int64_t> order;
  for (int64_t at = upper ? count / 2 : 0; at < (upper ? count : count / 2); ++at) order.append({at, count + at});
  return vector::ShuffleOp::create(emit.b, emit.loc, x, y, order);
}
/// Of two vectors every second element, from the first or the second on (uzp1, uzp2).
Value unzipped(Emitter &emit, Value x, Value y, bool odd) {
  const int64_t count = mlir::cast<mlir::VectorType>(x.getType()).getNumElements();
  llvm::SmallVector<int64_t> order;
  for (int64_t at = odd; at < 2 * count; at += 2) order.push_back(at);
  return vector::ShuffleOp::create(emit.b, emit.loc, x, y, order);
}
Value cast(Emitter &emit, Value x, mlir::Type element, int64_t count) {
  return vector::BitCastOp::create(emit.b, emit.loc, mlir::VectorType::get({count}, element), x);
}

}  // namespace

void matrixBlock(Emitter &emit, const Product &p, Value row, int blockRows, Value column, int vectors) {
  const int64_t lanes = emit.machine.lanes;
  const unsigned halfBytes = 2;  // what rows of bf16 are aligned to
  mlir::Type half = emit.b.getBF16Type(), pair = emit.b.getI32Type(), four = emit.b.getI64Type();
  const int rowPairs = (blockRows + 1) / 2;
  std::vector<Value> lhsRows;
  for (int r = 0; r < 2 * rowPairs; ++r) {
    Value index = emit.add(row, emit.i64(std::min(r, blockRows - 1)));  // a last row stands for one that is missing
    lhsRows.push_back(emit.at(p.lhs, emit.mul(index, p.lhsRow), half));
  }
  Value rhs = emit.at(p.rhs, column);
  // What lies past the terms is zero in both operands, whose rows and columns are multiples of 16.
  Value steps = emit.div(emit.add(p.depth, emit.i64(1)), emit.i64(2));
  const std::vector<Value> inits(static_cast<size_t>(2 * rowPairs * vectors), emit.zeros());
  const std::vector<Value> sums = emit.loop(emit.i64(0), steps, 1, inits, [&](Value step, mlir::ValueRange carried) {
    // The rows stay in registers beside the sums, of which there are as many as fit; columns come and go.
    std::vector<Value> rows, next(carried.size());
    for (int r = 0; r < rowPairs; ++r) {
      auto terms = [&](int at) -> Value {
        Value from = emit.at(lhsRows[static_cast<size_t>(at)], emit.mul(step, emit.i64(4)), half);
        return vector::BroadcastOp::create(emit.b, emit.loc, mlir::VectorType::get({lanes / 2}, four),
                                           emit.load(four, from, halfBytes));
      };
      rows.push_back(cast(emit, zipped(emit, terms(2 * r), terms(2 * r + 1), false), half, 2 * lanes));
    }
    Value first = emit.mul(step, emit.i64(2));
    Value upper = emit.at(rhs, emit.mul(first, p.rhsStep));
    Value lower = emit.at(rhs, emit.mul(emit.add(first, emit.i64(1)), p.rhsStep));
    for (int v = 0; v < vectors; ++v) {
      auto load = [&](Value from) {
        return emit.load(emit.vectorOf(pair), emit.at(from, static_cast<int32_t>(v * lanes)), halfBytes);
      };
      Value x = load(upper), y = load(lower);
      for (const int high : {0, 1}) {
        Value columns = cast(emit, zipped(emit, x, y, high), half, 2 * lanes);
        for (int r = 0; r < rowPairs; ++r) {
          const auto at = static_cast<size_t>((r * vectors + v) * 2 + high);
          next[at] = matrixOfFours(emit, carried[at], rows[static_cast<size_t>(r)], columns);
        }
      }
    }
    return next;
  });
  for (int r = 0; r < blockRows; ++r)
    for (int v = 0; v < vectors; ++v) {
      auto half = [&](int at) {
        return cast(emit, sums[static_cast<size_t>((r / 2 * vectors + v) * 2 + at)], four, lanes / 2);
      };
      Value sum = cast(emit, unzipped(emit, half(0), half(1), r % 2), emit.b.getF32Type(), lanes);
      Value index = emit.add(row, emit.i64(r));
      Value to =
          emit.at(emit.at(p.out, emit.add(emit.mul(index, p.outStride), column)), static_cast<int32_t>(v * lanes));
      if (p.accumulate) sum = mlir::arith::AddFOp::create(emit.b, emit.loc, emit.load(emit.floats(), to), sum);
      emit.store(sum, to);
    }
}

}  // namespace weft::cpu
