// Results to memory.
#include "compiler/target/cpu/kernel_code.h"

namespace weft::cpu {

void lower(KernelCode &code, tile::StoreOp op) {
  Emitter &emit = code.emit;
  const Tile value = code.tile(op.getValue());
  const int64_t rows = KernelCode::shapeOf(op.getValue())[0], columns = KernelCode::shapeOf(op.getValue())[1];
  const std::string name = op.getTensor().str();
  const ElementType type = code.slots.info(name).element;
  mlir::Type element = emit.storage(type);
  const bool query = layoutOf(op.getValue().getType()) == Layout::Columns;
  Value first = emit.mul(code.scalar(op.getIndex()), emit.i64(rows));
  Value valid = emit.min(emit.sub(query ? code.slots.rows() : code.slots.dim(code.slots.info(name).dims[2]), first),
                         emit.i64(rows));
  Value out =
      code.slots.row(name, code.scalar(op.getBatch()),
                     query ? code.slots.headOf(name, code.scalar(op.getHead())) : code.scalar(op.getHead()), first);
  Value stride = code.slots.rowStride(name);
  const int lanes = emit.machine.lanes;
  if (!query) {
    emit.loop(emit.i64(0), valid, 1, [&](Value row) {
      for (int64_t c = 0; c < columns; c += lanes) {
        Value index = emit.add(emit.mul(row, emit.i64(columns)), emit.i64(c));
        Value part = emit.loadLanes(emit.at(value.base, index), columns - c);
        Value to = emit.at(out, emit.add(emit.mul(row, stride), emit.i64(c)), element);
        emit.storeAs(type, part, to, columns - c);
      }
    });
    return;
  }
  emit.loop(emit.i64(0), emit.i64(rows), lanes, [&](Value row) {
    auto block = [&](Value column, int64_t count) {
      std::vector<Value> vectors;
      for (int c = 0; c < lanes; ++c) {
        Value index = emit.add(emit.mul(emit.add(column, emit.i64(c)), emit.i64(code.tileQ)), row);
        vectors.push_back(c < count ? emit.load(emit.floats(), emit.at(value.base, index)) : emit.zeros());
      }
      vectors = emit.transpose(std::move(vectors));
      for (int r = 0; r < lanes; ++r) {
        Value own = emit.add(row, emit.i64(r));
        emit.when(emit.less(own, valid), [&] {
          Value to = emit.at(out, emit.add(emit.mul(own, stride), column), element);
          emit.storeAs(type, vectors[r], to, count);
        });
      }
    };
    const int64_t whole = columns / lanes * lanes;
    if (whole) emit.loop(emit.i64(0), emit.i64(whole), lanes, [&](Value column) { block(column, lanes); });
    if (whole < columns) block(emit.i64(whole), columns - whole);
  });
}

void lower(KernelCode &code, tile::StoreRowsOp op) {
  Emitter &emit = code.emit;
  const Tile value = code.tile(op.getValue());
  Value first = emit.mul(code.scalar(op.getIndex()), emit.i64(code.tileQ));
  Value valid = emit.sub(code.slots.rows(), first);
  const std::string name = op.getTensor().str();
  Value out = code.slots.row(name, code.scalar(op.getBatch()), code.scalar(op.getHead()), first);
  emit.loop(emit.i64(0), emit.i64(code.tileQ), emit.machine.lanes, [&](Value lane) {
    Value part = emit.load(emit.floats(), emit.at(value.base, lane));
    code.storeNumbers(part, out, lane, emit.firstLanes(emit.sub(valid, lane)));
  });
}

}  // namespace weft::cpu
