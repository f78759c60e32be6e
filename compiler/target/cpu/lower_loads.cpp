// Rows of tensors.
#include "compiler/target/cpu/kernel_code.h"

namespace weft::cpu {
namespace {

/// Rows of a tensor, and where the first of them is.
template <class Rows>
struct Source {
  const std::string name;
  const int64_t rows, columns;
  const Value first;  ///< i64
  const Value valid;  ///< how many are inside the tensor, i64
  Value head;

  Source(KernelCode &code, Rows op)
      : name(op.getTensor().str()),
        rows(KernelCode::shapeOf(op.getResult())[0]),
        columns(KernelCode::shapeOf(op.getResult())[1]),
        first(code.emit.mul(code.scalar(op.getIndex()), code.emit.i64(rows))),
        valid(code.emit.min(code.emit.sub(code.slots.extent(name), first), code.emit.i64(rows))),
        head(code.slots.headOf(name, code.scalar(op.getHead()))) {}
};

}  // namespace

void lower(KernelCode &code, ViewOp op) {
  const Source from(code, op);
  Value stride = code.slots.rowStride(from.name);
  Value base = code.slots.row(from.name, code.scalar(op.getBatch()), from.head, from.first);
  code.tiles[op.getResult()] = {base, stride, from.valid};
}

void lower(KernelCode &code, GatherOp op) {
  Emitter &emit = code.emit;
  const Source own(code, op);
  const ElementType type = code.slots.info(own.name).element;
  mlir::Type element = emit.storage(type);
  Value base = code.place(op->getResult(0)), batch = code.scalar(op.getBatch());
  emit.loop(emit.i64(0), own.valid, 1, [&](Value row) {
    Value from = code.slots.row(own.name, batch, own.head, code.slots.keyAt(emit.add(own.first, row)).first);
    Value to = emit.at(base, emit.mul(row, emit.i64(own.columns)), element);
    for (int64_t c = 0; c < own.columns; c += emit.machine.lanes) {
      Value part = emit.loadAs(type, emit.at(from, emit.i64(c), element), own.columns - c);
      emit.storeAs(type, part, emit.at(to, emit.i64(c), element), own.columns - c);
    }
  });
  code.tiles[op.getResult()] = {base, emit.i64(own.columns), own.valid};
}

void lower(KernelCode &code, tile::LoadRowsOp op) {
  Emitter &emit = code.emit;
  Value base = code.place(op->getResult(0));
  Value first = emit.mul(code.scalar(op.getIndex()), emit.i64(code.tileQ));
  Value valid = emit.sub(code.slots.rows(), first);
  const std::string name = op.getTensor().str();
  Value source = code.slots.row(name, code.scalar(op.getBatch()), code.scalar(op.getHead()), first);
  Value fill = emit.splat(emit.constantF(op.getFill().convertToFloat()));
  emit.loop(emit.i64(0), emit.i64(code.tileQ), emit.machine.lanes, [&](Value lane) {
    Value mask = emit.firstLanes(emit.sub(valid, lane));
    emit.store(code.loadNumbers(source, lane, mask, fill), emit.at(base, lane));
  });
  code.tiles[op.getResult()] = {base};
}

}  // namespace weft::cpu
