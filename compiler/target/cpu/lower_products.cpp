// Products of tiles.
#include "compiler/target/cpu/kernel_code.h"
#include "compiler/target/cpu/product.h"
#include "compiler/target/cpu/row_product.h"

namespace weft::cpu {
namespace {

/// A side of a product of bf16.
HalfOperand operand(KernelCode &code, Value tile) {
  Emitter &emit = code.emit;
  const Tile own = code.tile(tile);
  const auto shape = KernelCode::shapeOf(tile);
  switch (*layoutOf(tile.getType())) {
    case Layout::Strided: return {own.base, emit.mul(own.stride, emit.i64(2))};
    case Layout::Rows: return {own.base, emit.i64(2 * shape[1])};
    case Layout::Columns: return {own.base, emit.i64(2 * shape[0])};
    case Layout::RowPairs: return {own.base, emit.i64(4 * shape[1])};
    case Layout::ColumnPairs: return {own.base, emit.i64(4 * shape[0])};
  }
  return {};
}

void multiplyAmx(KernelCode &code, ProductOp op, Value out) {
  Emitter &emit = code.emit;
  const bool accumulate = op.getAcc() != nullptr;
  const auto lhs = KernelCode::shapeOf(op.getLhs()), result = KernelCode::shapeOf(op.getResult());
  // A is what is broadcast: keys and values, of tn the pairs. B has the lanes.
  if (op.getForm() == tile::DotForm::TN)
    code.amx.product(out, emit.i64(result[1]), operand(code, op.getLhs()), operand(code, op.getRhs()), result[0],
                     result[1], lhs[0], accumulate);
  else
    code.amx.product(out, emit.i64(code.tileQ), operand(code, op.getRhs()), operand(code, op.getLhs()), result[1],
                     code.tileQ, lhs[1], accumulate);
}

/// Of pairs: rows of A, whose columns are the terms, are broadcast; `rows` and `terms` are i64.
Product productOfPairs(KernelCode &code, Value out, Value outStride, const Value &a, const Value &b, Value rows,
                       int64_t columns, Value terms, bool accumulate) {
  Emitter &emit = code.emit;
  Value pairs = emit.div(emit.add(terms, emit.i64(1)), emit.i64(2));  // beside an odd one lie zeros
  const HalfOperand left = operand(code, a), right = operand(code, b);
  Product p{out,
            outStride,
            left.base,
            emit.div(left.stride, emit.i64(2)),
            emit.i64(1),
            right.base,
            emit.div(right.stride, emit.i64(4)),
            rows,
            pairs,
            columns,
            accumulate,
            code.blockRows};
  p.pairs = true;
  return p;
}

void multiplyPairs(KernelCode &code, ProductOp op, Value out) {
  Emitter &emit = code.emit;
  const bool accumulate = op.getAcc() != nullptr;
  const Tile rhs = code.tile(op.getRhs());
  const int64_t columns = KernelCode::shapeOf(op.getRhs())[1];
  Value queries = emit.i64(code.tileQ);
  switch (op.getForm()) {
    case tile::DotForm::NT:
      return product(emit, productOfPairs(code, out, queries, op.getRhs(), op.getLhs(), rhs.valid, code.tileQ,
                                          emit.i64(columns), accumulate));
    case tile::DotForm::NN:
      return product(emit, productOfPairs(code, out, queries, op.getRhs(), op.getLhs(), emit.i64(columns), code.tileQ,
                                          rhs.valid, accumulate));
    case tile::DotForm::TN:
      return product(emit,
                     productOfPairs(code, out, emit.i64(columns), op.getLhs(), op.getRhs(),
                                    emit.i64(KernelCode::shapeOf(op.getResult())[0]), columns, rhs.valid, accumulate));
  }
}

void multiplyFma(KernelCode &code, ProductOp op, Value out) {
  Emitter &emit = code.emit;
  const Tile lhs = code.tile(op.getLhs()), rhs = code.tile(op.getRhs());
  const int64_t columns = KernelCode::shapeOf(op.getRhs())[1];
  const bool accumulate = op.getAcc() != nullptr;
  Value queries = emit.i64(code.tileQ);
  switch (op.getForm()) {
    case tile::DotForm::NT:
      // logits[j][i] = sum over c of keys[j][c] * queries[c][i]
      return product(emit, {out, queries, rhs.base, rhs.stride, emit.i64(1), lhs.base, queries, rhs.valid,
                            emit.i64(columns), code.tileQ, accumulate, code.blockRows, op.getBlocked()});
    case tile::DotForm::NN:
      // out[e][i] += sum over j of values[j][e] * p[j][i]
      return product(emit, {out, queries, rhs.base, emit.i64(1), rhs.stride, lhs.base, queries, emit.i64(columns),
                            rhs.valid, code.tileQ, accumulate, code.blockRows});
    case tile::DotForm::TN:
      // out[j][e] += sum over i of p[j][i] * queries[i][e]
      return product(emit, {out, emit.i64(columns), lhs.base, queries, emit.i64(1), rhs.base, rhs.stride,
                            emit.i64(KernelCode::shapeOf(op.getResult())[0]), rhs.valid, columns, accumulate,
                            code.blockRows});
  }
}

void multiplyByRow(KernelCode &code, ProductOp op, Value out) {
  Emitter &emit = code.emit;
  const Tile lhs = code.tile(op.getLhs()), rhs = code.tile(op.getRhs());
  const ElementType type =
      target::elementOf(mlir::cast<mlir::RankedTensorType>(op.getRhs().getType()).getElementType());
  const auto shape = KernelCode::shapeOf(op.getRhs());
  const RowProduct p{out,       code.tileQ, code.queries(), rhs.base, rhs.stride,
                     rhs.valid, shape[0],   shape[1],       type,     op.getAcc() != nullptr};
  if (op.getForm() == tile::DotForm::NT) dotRows(emit, p, lhs.base, lhs.stride);
  else sumRows(emit, p, lhs.base);
}

/// Where the sums of a cpu.product_into belong.
struct Target {
  Value base, stride;  ///< of the tensor's rows; of listed keys, of all of them
  Value first, valid;  ///< first key, and how many are inside the tensor, i64
  bool listed;
};
Target targetOf(KernelCode &code, ProductIntoOp op) {
  Emitter &emit = code.emit;
  const std::string name = op.getTensor().str();
  const std::string &dim = code.slots.info(name).dims[2];
  Target to;
  to.listed = code.slots.listed(dim);
  to.first = emit.mul(code.scalar(op.getIndex()), emit.i64(code.tileK));
  to.valid = emit.min(emit.sub(code.slots.dim(code.slots.keyExtent(dim)), to.first), emit.i64(code.tileK));
  to.stride = code.slots.rowStride(name);
  to.base = code.slots.row(name, code.scalar(op.getBatch()), code.slots.headOf(name, code.scalar(op.getHead())),
                           to.listed ? emit.i64(0) : to.first);
  return to;
}

/// Adds rows of sums, `columns` each, to where they belong.
void addRows(KernelCode &code, const Target &to, Value sums, int64_t columns) {
  Emitter &emit = code.emit;
  emit.loop(emit.i64(0), to.valid, 1, [&](Value row) {
    auto [key, exists] = to.listed ? code.slots.keyAt(emit.add(to.first, row)) : std::pair{row, Value()};
    auto add = [&, key = key] {
      for (int64_t c = 0; c < columns; c += emit.machine.lanes) {
        Value target = emit.at(to.base, emit.add(emit.mul(key, to.stride), emit.i64(c)));
        Value from = emit.at(sums, emit.add(emit.mul(row, emit.i64(columns)), emit.i64(c)));
        Value more = emit.loadLanes(from, columns - c), old = emit.loadLanes(target, columns - c);
        emit.storeLanes(arith::AddFOp::create(code.builder, emit.loc, old, more), target, columns - c);
      }
    };
    exists ? emit.when(exists, add) : add();
  });
}

void multiplyIntoAmx(KernelCode &code, ProductIntoOp op, const Target &to) {
  Emitter &emit = code.emit;
  const int64_t columns = KernelCode::shapeOf(op.getRhs())[1];
  Value sums = code.tile(op.getBy()).base;
  const HalfOperand lhs = operand(code, op.getLhs()), rhs = operand(code, op.getRhs());
  auto multiply = [&](Value out, Value stride, bool accumulate) {
    code.amx.product(out, stride, lhs, rhs, code.tileK, columns, code.tileQ, accumulate);
  };
  auto byWay = [&] {
    multiply(sums, emit.i64(columns), false);
    addRows(code, to, sums, columns);
  };
  if (to.listed) return byWay();
  // Of the last keys registers reach past the end.
  emit.choose(emit.less(to.valid, emit.i64(code.tileK)), byWay, [&] { multiply(to.base, to.stride, true); });
}

void multiplyIntoPairs(KernelCode &code, ProductIntoOp op, const Target &to) {
  Emitter &emit = code.emit;
  const int64_t columns = KernelCode::shapeOf(op.getRhs())[1];
  Value queries = code.tile(op.getRhs()).valid;
  auto multiply = [&](Value out, Value stride, bool accumulate) {
    product(emit, productOfPairs(code, out, stride, op.getLhs(), op.getRhs(), to.valid, columns, queries, accumulate));
  };
  if (!to.listed) return multiply(to.base, to.stride, true);
  Value sums = code.tile(op.getBy()).base;
  multiply(sums, emit.i64(columns), false);
  addRows(code, to, sums, columns);
}

void multiplyIntoFma(KernelCode &code, ProductIntoOp op, const Target &to) {
  Emitter &emit = code.emit;
  const Tile lhs = code.tile(op.getLhs()), rhs = code.tile(op.getRhs());
  const int64_t columns = KernelCode::shapeOf(op.getRhs())[1];
  auto multiply = [&](Value out, Value stride) {
    product(emit, {out, stride, lhs.base, emit.i64(code.tileQ), emit.i64(1), rhs.base, rhs.stride, to.valid, rhs.valid,
                   columns, true, code.blockRows});
  };
  if (!to.listed) return multiply(to.base, to.stride);
  Value sums = code.tile(op.getBy()).base;
  emit.loop(emit.i64(0), emit.i64(code.tileK * columns), emit.machine.lanes,
            [&](Value at) { emit.store(emit.zeros(), emit.at(sums, at)); });
  multiply(sums, emit.i64(columns));
  addRows(code, to, sums, columns);
}

}  // namespace

void lower(KernelCode &code, ProductOp op) {
  const Tile out{op.getAcc() ? code.tile(op.getAcc()).base : code.place(op->getResult(0))};
  switch (op.getKind()) {
    case ProductKind::Fma: multiplyFma(code, op, out.base); break;
    case ProductKind::Amx: multiplyAmx(code, op, out.base); break;
    case ProductKind::Pairs: multiplyPairs(code, op, out.base); break;
    case ProductKind::ByRow: multiplyByRow(code, op, out.base); break;
  }
  code.tiles[op.getResult()] = out;
}

void lower(KernelCode &code, ProductIntoOp op) {
  const Target to = targetOf(code, op);
  switch (op.getKind()) {
    case ProductKind::Fma: return multiplyIntoFma(code, op, to);
    case ProductKind::Amx: return multiplyIntoAmx(code, op, to);
    case ProductKind::Pairs: return multiplyIntoPairs(code, op, to);
    case ProductKind::ByRow: internalCheck(false, "cpu lowering", "sums of keys by rows of queries");
  }
}

}  // namespace weft::cpu
