#include "compiler/target/emitter.h"

#include "compiler/target/tensors.h"

namespace weft::target {

namespace arith = mlir::arith;
namespace vector = mlir::vector;
namespace llvmir = mlir::LLVM;

mlir::Type Emitter::storage(ElementType type) {
  switch (type) {
    case ElementType::F32: return b.getF32Type();
    case ElementType::BF16: return b.getBF16Type();
    case ElementType::F16: return b.getF16Type();
    case ElementType::F64: return b.getF64Type();
    case ElementType::I32: return b.getI32Type();
    case ElementType::I64: return b.getI64Type();
    case ElementType::Bool: return b.getI8Type();
  }
  return {};
}

Value Emitter::firstLanes(int64_t count) {
  if (machine.lanes == 1) return arith::ConstantOp::create(b, loc, b.getBoolAttr(count > 0));
  std::vector<bool> lanes(machine.lanes);
  for (int at = 0; at < machine.lanes; ++at) lanes[at] = at < count;
  llvm::SmallVector<bool> bits(lanes.begin(), lanes.end());
  auto type = mlir::cast<mlir::VectorType>(vectorOf(b.getI1Type()));
  return arith::ConstantOp::create(b, loc, mlir::DenseElementsAttr::get(type, llvm::ArrayRef<bool>(bits)));
}

Value Emitter::iota() {
  if (machine.lanes == 1) return i32(0);
  llvm::SmallVector<int32_t> lanes;
  for (int at = 0; at < machine.lanes; ++at) lanes.push_back(at);
  auto type = mlir::cast<mlir::VectorType>(vectorOf(b.getI32Type()));
  return arith::ConstantOp::create(b, loc, mlir::DenseElementsAttr::get(type, llvm::ArrayRef<int32_t>(lanes)));
}

Value Emitter::firstLanes(Value count) {
  return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, iota(), splat(toI32(count)));
}

Value Emitter::loadLanes(Value pointer, int64_t count) { return loadAs(elementOf(real()), pointer, count); }
void Emitter::storeLanes(Value value, Value pointer, int64_t count) {
  storeAs(elementOf(real()), value, pointer, count);
}

Value Emitter::loadAs(ElementType type, Value pointer, int64_t count) {
  mlir::Type stored = vectorOf(storage(type));
  const unsigned alignment = static_cast<unsigned>(bytesOf(type));
  Value value;
  if (count >= machine.lanes) {
    value = load(stored, pointer, alignment);
  } else {
    Value zero = arith::ConstantOp::create(b, loc, b.getZeroAttr(stored));
    value = llvmir::MaskedLoadOp::create(b, loc, stored, pointer, firstLanes(count), zero, alignment);
  }
  if (stored == floats()) return value;
  return arith::ExtFOp::create(b, loc, floats(), value);
}

void Emitter::storeAs(ElementType type, Value value, Value pointer, int64_t count) {
  mlir::Type stored = vectorOf(storage(type));
  if (stored != value.getType()) value = arith::TruncFOp::create(b, loc, stored, value);
  const unsigned alignment = static_cast<unsigned>(bytesOf(type));
  if (count >= machine.lanes) store(value, pointer, alignment);
  else llvmir::MaskedStoreOp::create(b, loc, value, pointer, firstLanes(count), alignment);
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

/// Of the numbers of how many elements are at most x, half are left with each step.
Value Emitter::segment(Value count, Value x, llvm::function_ref<Value(Value)> load) {
  namespace arith = mlir::arith;
  auto like = [&](Value own) { return mlir::isa<mlir::VectorType>(x.getType()) ? splat(own) : own; };
  auto select = [&](Value condition, Value yes, Value no) -> Value {
    return arith::SelectOp::create(b, loc, condition, yes, no);
  };
  Value zeros = mlir::LLVM::CountLeadingZerosOp::create(b, loc, b.getI32Type(), count, false);
  Value zero = like(i32(0)), one = like(i32(1)), last = like(sub(count, i32(1)));
  auto found =
      loop(i32(0), sub(i32(32), zeros), 1, mlir::ValueRange{zero, like(count)}, [&](Value, mlir::ValueRange carried) {
        Value low = carried[0], high = carried[1];
        Value middle = arith::ShRUIOp::create(b, loc, add(low, high), one);
        Value open = less(low, high);
        Value most = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sle, load(min(middle, last)), x);
        Value right = arith::AndIOp::create(b, loc, open, most);
        return std::vector<Value>{select(right, add(middle, one), low),
                                  select(right, high, select(open, middle, high))};
      });
  return sub(found[0], one);
}

}  // namespace weft::target
