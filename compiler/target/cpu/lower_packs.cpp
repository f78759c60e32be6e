// How products take tiles: converted, packed, padded and rounded.
#include "compiler/target/cpu/kernel_code.h"
#include "compiler/target/tensors.h"

namespace weft::cpu {
namespace {

ElementType elementOf(Value tile) {
  return target::elementOf(mlir::cast<mlir::RankedTensorType>(tile.getType()).getElementType());
}

/// [column][row] in f32.
void packColumns(KernelCode &code, const Tile &source, ElementType type, Value base, int64_t rows, int64_t columns) {
  Emitter &emit = code.emit;
  const int lanes = emit.machine.lanes;
  mlir::Type element = emit.storage(type);
  emit.loop(emit.i64(0), emit.i64(rows), lanes, [&](Value row) {
    auto block = [&](Value column, int64_t count) {
      std::vector<Value> vectors;
      for (int r = 0; r < lanes; ++r) {
        Value own = emit.add(row, emit.i64(r));
        Value inside = emit.less(own, source.valid);
        // Row 0 always exists; what is read from it in place of a missing row is dropped.
        Value safe = arith::SelectOp::create(code.builder, emit.loc, inside, own, emit.i64(0));
        Value pointer = emit.at(source.base, emit.add(emit.mul(safe, source.stride), column), element);
        Value part = emit.loadAs(type, pointer, count);
        vectors.push_back(arith::SelectOp::create(code.builder, emit.loc, inside, part, emit.zeros()));
      }
      vectors = emit.transpose(std::move(vectors));
      for (int c = 0; c < lanes; ++c) {
        Value to = emit.add(emit.mul(emit.add(column, emit.i64(c)), emit.i64(rows)), row);
        emit.store(vectors[c], emit.at(base, to));
      }
    };
    const int64_t whole = columns / lanes * lanes;
    if (whole) emit.loop(emit.i64(0), emit.i64(whole), lanes, [&](Value column) { block(column, lanes); });
    if (whole < columns) block(emit.i64(whole), columns - whole);
  });
}

}  // namespace

void lower(KernelCode &code, ConvertOp op) {
  Emitter &emit = code.emit;
  const Tile source = code.tile(op.getSource());
  const ElementType type = elementOf(op.getSource());
  const int64_t columns = KernelCode::shapeOf(op.getResult())[1];
  Value base = code.place(op->getResult(0));
  emit.loop(emit.i64(0), source.valid, 1, [&](Value row) {
    Value from = emit.at(source.base, emit.mul(row, source.stride), emit.storage(type));
    Value to = emit.at(base, emit.mul(row, emit.i64(columns)));
    for (int64_t c = 0; c < columns; c += emit.machine.lanes) {
      Value part = emit.loadAs(type, emit.at(from, emit.i64(c), emit.storage(type)), columns - c);
      emit.storeLanes(part, emit.at(to, emit.i64(c)), columns - c);
    }
  });
  code.tiles[op.getResult()] = {base, emit.i64(columns), source.valid};
}

void lower(KernelCode &code, PackOp op) {
  const Tile source = code.tile(op.getSource());
  const int64_t rows = KernelCode::shapeOf(op.getSource())[0], columns = KernelCode::shapeOf(op.getSource())[1];
  const Layout layout = *layoutOf(op.getResult().getType());
  Value base = code.place(op->getResult(0));
  const int64_t packed = KernelCode::shapeOf(op.getResult())[1];
  if (layout == Layout::ColumnPairs) {
    code.halves.columnPairs(source.base, source.stride, source.valid, rows, columns, packed, base);
  } else if (layout == Layout::RowPairs) {
    code.halves.rowPairs(source.base, source.stride, source.valid, rows, columns, base);
  } else if (elementOf(op.getResult()) == ElementType::BF16) {
    code.stayAwake();
    code.halves.columns(source.base, source.stride, rows, packed, base);
  } else {
    packColumns(code, source, elementOf(op.getSource()), base, rows, columns);
  }
  code.tiles[op.getResult()] = {base, Value(), source.valid};
}

void lower(KernelCode &code, PadOp op) {
  const Tile source = code.tile(op.getSource());
  const auto shape = KernelCode::shapeOf(op.getSource());
  auto [base, stride] = code.halves.padded(source.base, source.stride, source.valid, shape[0], shape[1],
                                           KernelCode::shapeOf(op.getResult())[1], code.place(op->getResult(0)));
  code.tiles[op.getResult()] = {base, stride, source.valid};
}

void lower(KernelCode &code, RoundOp op) {
  Value source = code.tile(op.getSource()).base, end = code.tile(op.getEnd()).valid;
  Value base = code.place(op->getResult(0));
  // In memory queries are columns.
  if (layoutOf(op.getResult().getType()) == Layout::ColumnPairs) {
    code.stayAwake();
    code.halves.roundPairs(source, end, code.tileK, code.tileQ, base);
  } else {
    code.halves.round(source, end, code.tileK, code.tileQ, base);
  }
  code.tiles[op.getResult()] = {base};
}

void lower(KernelCode &code, EmptyOp op) { code.tiles[op.getResult()] = {code.place(op->getResult(0))}; }

}  // namespace weft::cpu
