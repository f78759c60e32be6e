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

/// 16 bytes of a row, of which each of four threads holds two neighbours of every 8 columns, in one store.
class WideStore {
 public:
  WideStore(KernelCode &code, Value tile, const Target &target)
      : code(code), emit(code.emit), own(code.registersOf(tile)), shape(KernelCode::shapeOf(tile)), target(target) {}

  /// Whole blocks of 8 columns.
  static bool fits(Value tile) { return KernelCode::shapeOf(tile)[1] % 8 == 0; }

  /// i1: the tensor's rows begin at multiples of 16 bytes.
  Value aligned() {
    Value start = mlir::LLVM::PtrToIntOp::create(emit.b, emit.loc, emit.b.getI64Type(), target.start);
    Value pitch = emit.mul(target.stride, emit.i64(elementBytes()));
    Value bits = mlir::arith::OrIOp::create(emit.b, emit.loc, start, pitch);
    Value rest = mlir::arith::AndIOp::create(emit.b, emit.loc, bits, emit.i64(15));
    return mlir::arith::CmpIOp::create(emit.b, emit.loc, mlir::arith::CmpIPredicate::eq, rest, emit.i64(0));
  }

  void run() {
    // Registers have more columns where products have.
    const int64_t pitch = KernelCode::columnTiles(shape[1]), blocks = shape[1] / 8;
    const int64_t together = elementBytes() == 2 ? 4 : 2;
    code.eachRow(shape[0], [&](int64_t block, int half, Value row) {
      // All threads exchange, also those whose rows are outside.
      std::vector<std::pair<Value, std::vector<Value>>> chunks;  // by the column that each begins at
      auto wordsOf = [&](int64_t n) { return words((block * pitch + n) * 4 + 2 * half); };
      int64_t n = 0;
      for (; n + together <= blocks; n += together) {
        std::vector<Value> all;
        for (int64_t at = n; at < n + together; ++at) llvm::append_range(all, wordsOf(at));
        chunks.push_back(together == 4 ? ofFourBlocks(n, all) : ofTwoBlocks(n, all));
      }
      for (; n < blocks; ++n) chunks.push_back({code.thread.column(n, 0), wordsOf(n)});
      emit.when(emit.less(row, target.valid), [&] {
        Value start = emit.at(target.start, emit.mul(row, target.stride), target.element);
        for (const auto &[column, chunk] : chunks) store(chunk, emit.at(start, column, target.element));
      });
    });
  }

 private:
  KernelCode &code;
  Emitter &emit;
  const Registers &own;
  const llvm::ArrayRef<int64_t> shape;
  const Target &target;

  int64_t elementBytes() const { return target.element.getIntOrFloatBitWidth() / 8; }

  /// The two neighbours that begin at a register, i32: one word or two.
  std::vector<Value> words(int64_t at) {
    if (elementBytes() == 2) return {code.pack(target.element, own[at], own[at + 1])};
    std::vector<Value> result;
    for (int e = 0; e < 2; ++e)
      result.push_back(mlir::arith::BitcastOp::create(emit.b, emit.loc, emit.b.getI32Type(), own[at + e]));
    return result;
  }

  /// i1: the thread is in the upper half of the four, or of its two.
  Value isUpper(int distance) {
    if (distance == 1) {
      Value own = mlir::arith::AndIOp::create(emit.b, emit.loc, code.thread.quad, emit.i32(1));
      return mlir::arith::CmpIOp::create(emit.b, emit.loc, mlir::arith::CmpIPredicate::ne, own, emit.i32(0));
    }
    // Not a second bit of the same register: ptxas may mix up tests of two (see unit.Ptxas).
    Value place = code.thread.anchored(code.thread.quad);
    return mlir::arith::CmpIOp::create(emit.b, emit.loc, mlir::arith::CmpIPredicate::ugt, place, emit.i32(1));
  }

  /// Of two parts a thread keeps one and gets what its neighbour has of the same, behind its own or, where `upper`,
  /// before it: the first of those without the bit, the second of the others.
  std::vector<Value> exchanged(llvm::ArrayRef<Value> first, llvm::ArrayRef<Value> second, int mask) {
    Value upper = isUpper(mask);
    std::vector<Value> low, high;
    for (auto [a, b] : llvm::zip(first, second)) {
      Value kept = code.select(upper, b, a), got = code.thread.exchange(code.select(upper, a, b), mask);
      low.push_back(code.select(upper, got, kept));
      high.push_back(code.select(upper, kept, got));
    }
    llvm::append_range(low, high);
    return low;
  }

  /// 16-bit elements, a word of each block: thread q gets block q.
  std::pair<Value, std::vector<Value>> ofFourBlocks(int64_t n, llvm::ArrayRef<Value> all) {
    const auto first = exchanged(all[0], all[1], 1), second = exchanged(all[2], all[3], 1);
    Value column = emit.add(emit.mul(emit.toI64(code.thread.quad), emit.i64(8)), emit.i64(8 * n));
    return {column, exchanged(first, second, 2)};
  }

  /// f32, two words of each block: even threads get half of the first block, odd ones of the second.
  std::pair<Value, std::vector<Value>> ofTwoBlocks(int64_t n, llvm::ArrayRef<Value> all) {
    Value half = mlir::arith::ShRUIOp::create(emit.b, emit.loc, code.thread.quad, emit.i32(1));
    Value which = mlir::arith::AndIOp::create(emit.b, emit.loc, code.thread.quad, emit.i32(1));
    Value column = emit.add(emit.mul(half, emit.i32(4)), emit.mul(which, emit.i32(8)));
    return {emit.add(emit.toI64(column), emit.i64(8 * n)), exchanged(all.take_front(2), all.drop_front(2), 1)};
  }

  void store(llvm::ArrayRef<Value> chunk, Value pointer) {
    const auto type = mlir::VectorType::get({static_cast<int64_t>(chunk.size())}, emit.b.getI32Type());
    Value all = mlir::vector::FromElementsOp::create(emit.b, emit.loc, type, chunk);
    emit.store(all, pointer, static_cast<unsigned>(4 * chunk.size()));
  }
};

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
  to.valid = emit.sub(query ? slots.rows() : slots.dim(info.dims[2]), first);
  to.stride = slots.rowStride(name);
  auto narrow = [&] {
    eachElement(code, op.getValue(), to, 1, [&](Value pointer, llvm::ArrayRef<Value> own) {
      Value number = own[0];
      if (info.element != ElementType::F32)
        number = mlir::arith::TruncFOp::create(code.builder, emit.loc, to.element, number);
      emit.store(number, pointer, static_cast<unsigned>(bytesOf(info.element)));
    });
  };
  WideStore wide(code, op.getValue(), to);
  if (!WideStore::fits(op.getValue())) return narrow();
  emit.choose(wide.aligned(), [&] { wide.run(); }, narrow);
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
  to.valid = emit.sub(slots.extent(name), first);
  to.stride = slots.rowStride(name);
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
  Value valid = emit.sub(code.slots.rows(), first);
  Value out = code.slots.row(op.getTensor().str(), code.scalar(op.getBatch()), code.scalar(op.getHead()), first);
  code.eachRow(code.tileQ, [&](int64_t block, int half, Value row) {
    emit.when(code.both(code.thread.isFirstOfRow(), emit.less(row, valid)),
              [&] { emit.store(value[block * 2 + half], emit.at(out, code.numberAt(row))); });
  });
}

}  // namespace weft::nvptx
