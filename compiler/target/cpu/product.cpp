#include "compiler/target/cpu/product.h"

#include <algorithm>

#include "compiler/target/cpu/matrix_product.h"
#include "compiler/target/cpu/pairs.h"

namespace weft::cpu {
namespace {

namespace vector = mlir::vector;

/// Of sums of sums: with few registers half of them are too few for what is read to be used often enough.
bool sumsInMemory(const Machine &machine, const Product &p) { return machine.registers < 32 && !p.accumulate; }

void productBlock(Emitter &emit, const Product &p, Value row, int blockRows, Value column, int vectors,
                  int64_t lastLanes) {
  auto lanesOf = [&](int v) { return v + 1 == vectors ? lastLanes : emit.machine.lanes; };
  mlir::Type half = emit.b.getBF16Type(), halves = mlir::VectorType::get({2 * emit.machine.lanes}, half);
  const unsigned halfBytes = 2;  // what rows of bf16 are aligned to
  auto scalarAt = [&](Value pointer) -> Value {
    if (!p.pairs) return emit.splat(emit.load(emit.real(), pointer));
    return vector::BitCastOp::create(emit.b, emit.loc, mlir::cast<mlir::VectorType>(halves),
                                     emit.splat(emit.load(emit.b.getI32Type(), pointer, halfBytes)));
  };
  auto vectorAt = [&](Value pointer, int64_t lanes) {
    return p.pairs ? emit.load(halves, pointer, halfBytes) : emit.loadLanes(pointer, lanes);
  };
  auto step = [&](Value scalar, Value vector, Value sum) -> Value {
    if (!p.pairs) return vector::FMAOp::create(emit.b, emit.loc, scalar, vector, sum);
    return dotOfPairs(emit, sum, scalar, vector);
  };
  std::vector<Value> outRows, lhsRows;
  for (int r = 0; r < blockRows; ++r) {
    Value index = emit.add(row, emit.i64(r));
    outRows.push_back(emit.at(p.out, emit.add(emit.mul(index, p.outStride), column)));
    lhsRows.push_back(emit.at(p.lhs, emit.mul(index, p.lhsRow), p.pairs ? half : emit.real()));
  }
  Value rhs = emit.at(p.rhs, column);
  auto sumUp = [&](Value from, Value to) {
    return emit.loop(from, to, 1, std::vector<Value>(static_cast<size_t>(blockRows * vectors), emit.zeros()),
                     [&](Value k, mlir::ValueRange carried) {
                       Value source = emit.at(rhs, emit.mul(k, p.rhsStep));
                       std::vector<Value> columns, next;
                       for (int v = 0; v < vectors; ++v)
                         columns.push_back(vectorAt(emit.at(source, v * emit.machine.lanes), lanesOf(v)));
                       Value offset = emit.mul(k, p.lhsStep);
                       for (int r = 0; r < blockRows; ++r) {
                         Value scalar = scalarAt(emit.at(lhsRows[r], offset));
                         for (int v = 0; v < vectors; ++v)
                           next.push_back(step(scalar, columns[v], carried[r * vectors + v]));
                       }
                       return next;
                     });
  };
  auto add = [&](Value x, Value y) { return Value(mlir::arith::AddFOp::create(emit.b, emit.loc, x, y)); };
  auto placeOf = [&](size_t sum) {
    return emit.at(outRows[sum / static_cast<size_t>(vectors)],
                   static_cast<int32_t>(sum % static_cast<size_t>(vectors)) * emit.machine.lanes);
  };
  auto lanesOfSum = [&](size_t sum) { return lanesOf(static_cast<int>(sum % static_cast<size_t>(vectors))); };
  constexpr int terms = 16;
  if (p.blocked && sumsInMemory(emit.machine, p)) {
    emit.loop(emit.i64(0), p.depth, terms, [&](Value from) {
      const auto own = sumUp(from, emit.min(emit.add(from, emit.i64(terms)), p.depth));
      auto storeAll = [&](bool first) {
        for (size_t at = 0; at < own.size(); ++at)
          emit.storeLanes(first ? own[at] : add(emit.loadLanes(placeOf(at), lanesOfSum(at)), own[at]), placeOf(at),
                          lanesOfSum(at));
      };
      emit.choose(emit.less(emit.i64(0), from), [&] { storeAll(false); }, [&] { storeAll(true); });
    });
    return;
  }
  auto sums = !p.blocked ? sumUp(emit.i64(0), p.depth)
                         : emit.loop(emit.i64(0), p.depth, terms,
                                     std::vector<Value>(static_cast<size_t>(blockRows * vectors), emit.zeros()),
                                     [&](Value from, mlir::ValueRange carried) {
                                       auto own = sumUp(from, emit.min(emit.add(from, emit.i64(terms)), p.depth));
                                       std::vector<Value> next;
                                       for (size_t at = 0; at < own.size(); ++at)
                                         next.push_back(add(carried[at], own[at]));
                                       return next;
                                     });
  // What was there is added last: a long sum is a sum of the sums of its tiles, and loses less than one after the
  // other.
  for (size_t at = 0; at < sums.size(); ++at) {
    Value sum = p.accumulate ? add(emit.loadLanes(placeOf(at), lanesOfSum(at)), sums[at]) : sums[at];
    emit.storeLanes(sum, placeOf(at), lanesOfSum(at));
  }
}

void block(Emitter &emit, const Product &p, Value row, int blockRows, Value column, int vectors, int64_t lastLanes) {
  if (p.pairs && emit.machine.pairs == Machine::Pairs::Matrices) matrixBlock(emit, p, row, blockRows, column, vectors);
  else productBlock(emit, p, row, blockRows, column, vectors, lastLanes);
}

void productGroup(Emitter &emit, const Product &p, Value column, int vectors, int64_t lastLanes) {
  // Whole blocks, then what is left in blocks of 4, 2 and 1.
  Value row = emit.i64(0);
  for (int blockRows : {p.blockRows, 4, 2, 1}) {
    Value left = emit.sub(p.rows, row);
    Value end = emit.add(row, emit.mul(emit.div(left, emit.i64(blockRows)), emit.i64(blockRows)));
    emit.loop(row, end, blockRows, [&](Value at) { block(emit, p, at, blockRows, column, vectors, lastLanes); });
    row = end;
  }
}

}  // namespace

void product(Emitter &emit, const Product &p) {
  const int lanes = emit.machine.lanes;
  // 32 registers hold 24 accumulators next to operands, 16 hold 12.
  const bool twice = p.blocked && !sumsInMemory(emit.machine, p);
  const int most = std::max(1, (emit.machine.registers >= 32 ? 24 : 12) / p.blockRows / (twice ? 2 : 1));
  const int64_t total = (p.columns + lanes - 1) / lanes;
  const int64_t groups = p.columns / (most * lanes);
  if (groups > 1)
    emit.loop(emit.i64(0), emit.i64(groups * most * lanes), most * lanes,
              [&](Value column) { productGroup(emit, p, column, most, lanes); });
  else if (groups == 1) productGroup(emit, p, emit.i64(0), most, lanes);
  const int rest = static_cast<int>(total - groups * most);
  if (rest > 0) productGroup(emit, p, emit.i64(groups * most * lanes), rest, p.columns - (total - 1) * lanes);
}

}  // namespace weft::cpu
