// Tiles from registers to tensors in memory.
#include "compiler/target/nvptx/kernel_code.h"

namespace weft::nvptx {
namespace {

/// Rows of a tensor that a tile goes to.
struct Target {
  Value start, stride;  ///< of row 0; elements from row to row (i64)
  Value valid;          ///< rows inside the tensor (i64)
  mlir::Type element;
  /// Which row of the tensor row r is, and whether there is one; null: r itself.
  std::function<std::pair<Value, Value>(Value row)> place;
};

/// body(pointer, values) for each element of the tile that is inside the tensor, `together` of neighbouring columns: 1,
/// or 2 where columns are even.
template <class Body>
void eachElement(KernelCode &code, Value tile, const Target &target, int together, Body body) {
  Emitter &emit = code.emit;
  const Registers &own = code.registersOf(tile);
  const auto shape = KernelCode::shapeOf(tile);
  const int64_t columns = shape[1], tiles = KernelCode::columnTiles(columns);
  code.eachRow(shape[0], [&](int64_t block, int half, Value row) {
    auto [at, exists] = target.place ? target.place(row) : std::pair{row, Value()};
    Value inside = emit.less(row, target.valid);
    emit.when(exists ? code.both(inside, exists) : inside, [&, at = at] {
      Value start = emit.at(target.start, emit.mul(at, target.stride), target.element);
      for (int64_t n = 0; n < tiles; ++n)
        for (int e = 0; e < 2; e += together) {
          if (8 * n + e >= columns) continue;
          const auto values = llvm::ArrayRef(own).slice((block * tiles + n) * 4 + 2 * half + e, together);
          Value column = code.thread.column(n, e);
          auto store = [&] { body(emit.at(start, column, target.element), values); };
          if (8 * n + 8 <= columns) store();
          else emit.when(emit.less(column, emit.i64(columns)), store);
        }
    });
  });
}

}  // namespace

void lower(KernelCode &code, tile::StoreOp op) {
  Emitter &emit = code.emit;
  target::KernelArguments &slots = code.slots;
  const std::string name = op.getTensor().str();
  const target::TensorInfo &info = slots.info(name);
  // Query-side tensors go by head, key-side gradients by the program's own group.
  const bool query = info.dims[2] == "T";
  Target to;
  to.element = emit.storage(info.element);
  Value first = emit.mul(code.scalar(op.getIndex()), emit.i64(KernelCode::shapeOf(op.getValue())[0]));
  Value head = code.scalar(op.getHead());
  to.start = slots.row(name, code.scalar(op.getBatch()), query ? slots.headOf(name, head) : head, first);
  to.valid = emit.sub(slots.dim(info.dims[2]), first);
  to.stride = slots.stride(name, 2);
  eachElement(code, op.getValue(), to, 1, [&](Value pointer, llvm::ArrayRef<Value> own) {
    Value number = own[0];
    if (info.element != ElementType::F32)
      number = mlir::arith::TruncFOp::create(code.builder, emit.loc, to.element, number);
    emit.store(number, pointer, static_cast<unsigned>(bytesOf(info.element)));
  });
}

void lower(KernelCode &code, cta::AddRowsOp op) {
  Emitter &emit = code.emit;
  target::KernelArguments &slots = code.slots;
  const std::string name = op.getTensor().str();
  const std::string &dim = slots.info(name).dims[2];
  const bool listed = slots.listed(dim);
  Target to;
  to.element = code.builder.getF32Type();
  Value first = emit.mul(code.scalar(op.getIndex()), emit.i64(KernelCode::shapeOf(op.getTile())[0]));
  to.start = slots.row(name, code.scalar(op.getBatch()), slots.headOf(name, code.scalar(op.getHead())),
                       listed ? emit.i64(0) : first);
  to.valid = emit.sub(slots.dim(slots.keyExtent(dim)), first);
  to.stride = slots.stride(name, 2);
  if (listed) to.place = [&code, first](Value row) { return code.keyAt(code.emit.add(first, row)); };
  eachElement(code, op.getTile(), to, op.getPairs() ? 2 : 1, [&](Value pointer, llvm::ArrayRef<Value> own) {
    if (op.getPairs()) return code.atomicAddPair(pointer, own[0], own[1]);
    // A list may name a key twice.
    if (listed || op.getAtomic()) return code.atomicAdd(pointer, own[0]);
    Value old = emit.load(to.element, pointer);
    emit.store(mlir::arith::AddFOp::create(code.builder, emit.loc, old, own[0]), pointer);
  });
}

void lower(KernelCode &code, tile::StoreRowsOp op) {
  Emitter &emit = code.emit;
  const Registers &value = code.registersOf(op.getValue());
  Value first = emit.mul(code.scalar(op.getIndex()), emit.i64(code.tileQ));
  Value valid = emit.sub(code.slots.dim("T"), first);
  Value out = code.slots.row(op.getTensor().str(), code.scalar(op.getBatch()), code.scalar(op.getHead()), first);
  code.eachRow(code.tileQ, [&](int64_t block, int half, Value row) {
    emit.when(code.both(code.thread.isFirstOfRow(), emit.less(row, valid)),
              [&] { emit.store(value[block * 2 + half], emit.at(out, row)); });
  });
}

}  // namespace weft::nvptx
