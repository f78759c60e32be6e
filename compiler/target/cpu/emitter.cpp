#include "compiler/target/cpu/emitter.h"

namespace weft::cpu {

namespace arith = mlir::arith;
namespace vector = mlir::vector;
namespace llvmir = mlir::LLVM;

mlir::Type Emitter::storage(ElementType type) {
  switch (type) {
    case ElementType::F32: return b.getF32Type();
    case ElementType::BF16: return b.getBF16Type();
    case ElementType::F16: return b.getF16Type();
    case ElementType::I32: return b.getI32Type();
    case ElementType::Bool: return b.getI8Type();
  }
  return {};
}

Value Emitter::firstLanes(int64_t count) {
  std::vector<bool> lanes(machine.lanes);
  for (int at = 0; at < machine.lanes; ++at) lanes[at] = at < count;
  llvm::SmallVector<bool> bits(lanes.begin(), lanes.end());
  return arith::ConstantOp::create(
      b, loc, mlir::DenseElementsAttr::get(vectorOf(b.getI1Type()), llvm::ArrayRef<bool>(bits)));
}

Value Emitter::iota() {
  llvm::SmallVector<int32_t> lanes;
  for (int at = 0; at < machine.lanes; ++at) lanes.push_back(at);
  return arith::ConstantOp::create(
      b, loc, mlir::DenseElementsAttr::get(vectorOf(b.getI32Type()), llvm::ArrayRef<int32_t>(lanes)));
}

Value Emitter::firstLanes(Value count) {
  return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, iota(), splat(toI32(count)));
}

Value Emitter::loadLanes(Value pointer, int64_t count) {
  return loadAs(ElementType::F32, pointer, count);
}
void Emitter::storeLanes(Value value, Value pointer, int64_t count) {
  storeAs(ElementType::F32, value, pointer, count);
}

Value Emitter::loadAs(ElementType type, Value pointer, int64_t count) {
  mlir::VectorType stored = vectorOf(storage(type));
  const unsigned alignment = static_cast<unsigned>(bytesOf(type));
  Value value;
  if (count >= machine.lanes) {
    value = load(stored, pointer, alignment);
  } else {
    Value zero = arith::ConstantOp::create(b, loc, b.getZeroAttr(stored));
    value = llvmir::MaskedLoadOp::create(b, loc, stored, pointer, firstLanes(count),
                                         zero, alignment);
  }
  if (type == ElementType::F32) return value;
  return arith::ExtFOp::create(b, loc, floats(), value);
}

void Emitter::storeAs(ElementType type, Value value, Value pointer, int64_t count) {
  if (type != ElementType::F32)
    value = arith::TruncFOp::create(b, loc, vectorOf(storage(type)), value);
  const unsigned alignment = static_cast<unsigned>(bytesOf(type));
  if (count >= machine.lanes)
    store(value, pointer, alignment);
  else
    llvmir::MaskedStoreOp::create(b, loc, value, pointer, firstLanes(count), alignment);
}

std::vector<Value> Emitter::transpose(std::vector<Value> rows) {
  // log2(n) rounds of perfect shuffles of row k with row k + n/2.
  const int n = static_cast<int>(rows.size());
  llvm::SmallVector<int64_t> low, high;
  for (int at = 0; at < n / 2; ++at) {
    low.push_back(at);
    low.push_back(n + at);
    high.push_back(n / 2 + at);
    high.push_back(n + n / 2 + at);
  }
  for (int round = 1; round < n; round *= 2) {
    std::vector<Value> next(n);
    for (int k = 0; k < n / 2; ++k) {
      next[2 * k] = vector::ShuffleOp::create(b, loc, rows[k], rows[k + n / 2], low);
      next[2 * k + 1] = vector::ShuffleOp::create(b, loc, rows[k], rows[k + n / 2], high);
    }
    rows = std::move(next);
  }
  return rows;
}

void Emitter::product(const Product &p) {
  const int lanes = machine.lanes;
  // 32 registers hold a block of 6 x 4 accumulators, 16 hold 6 x 2, next to operands.
  const int most = machine.registers >= 32 ? 4 : 2;
  const int64_t total = (p.columns + lanes - 1) / lanes;
  const int64_t groups = p.columns / (most * lanes);
  if (groups > 1)
    loop(i64(0), i64(groups * most * lanes), most * lanes,
         [&](Value column) { productGroup(p, column, most, lanes); });
  else if (groups == 1)
    productGroup(p, i64(0), most, lanes);
  const int rest = static_cast<int>(total - groups * most);
  if (rest > 0)
    productGroup(p, i64(groups * most * lanes), rest, p.columns - (total - 1) * lanes);
}

void Emitter::productGroup(const Product &p, Value column, int vectors, int64_t lastLanes) {
  // Blocks of 6 rows, then what is left in blocks of 4, 2 and 1.
  Value row = i64(0);
  for (int blockRows : {6, 4, 2, 1}) {
    Value left = sub(p.rows, row);
    Value end = add(row, mul(div(left, i64(blockRows)), i64(blockRows)));
    loop(row, end, blockRows,
         [&](Value at) { productBlock(p, at, blockRows, column, vectors, lastLanes); });
    row = end;
  }
}

void Emitter::productBlock(const Product &p, Value row, int blockRows, Value column, int vectors,
                           int64_t lastLanes) {
  auto lanesOf = [&](int v) { return v + 1 == vectors ? lastLanes : machine.lanes; };
  std::vector<Value> outRows, lhsRows;
  for (int r = 0; r < blockRows; ++r) {
    Value index = add(row, i64(r));
    outRows.push_back(at(p.out, add(mul(index, p.outStride), column)));
    lhsRows.push_back(at(p.lhs, mul(index, p.lhsRow)));
  }
  Value rhs = at(p.rhs, column);
  std::vector<Value> inits;
  for (int r = 0; r < blockRows; ++r)
    for (int v = 0; v < vectors; ++v)
      inits.push_back(p.accumulate ? loadLanes(at(outRows[r], v * machine.lanes), lanesOf(v))
                                   : zeros());
  auto sums = loop(i64(0), p.depth, 1, inits, [&](Value k, mlir::ValueRange carried) {
    Value source = at(rhs, mul(k, p.rhsStep));
    std::vector<Value> columns, next;
    for (int v = 0; v < vectors; ++v)
      columns.push_back(loadLanes(at(source, v * machine.lanes), lanesOf(v)));
    Value step = mul(k, p.lhsStep);
    for (int r = 0; r < blockRows; ++r) {
      Value scalar = splat(load(b.getF32Type(), at(lhsRows[r], step)));
      for (int v = 0; v < vectors; ++v)
        next.push_back(vector::FMAOp::create(b, loc, scalar, columns[v], carried[r * vectors + v]));
    }
    return next;
  });
  for (int r = 0; r < blockRows; ++r)
    for (int v = 0; v < vectors; ++v)
      storeLanes(sums[r * vectors + v], at(outRows[r], v * machine.lanes), lanesOf(v));
}

}  // namespace weft::cpu
