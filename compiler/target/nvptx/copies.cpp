// Rows of tensors to shared memory, each of some threads copying its share (cp.async).
#include "compiler/target/nvptx/copies.h"

#include "compiler/target/nvptx/kernel_code.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

namespace weft::nvptx {
namespace {

namespace arith = mlir::arith;
namespace nvvm = mlir::NVVM;

/// Rows of a tensor in memory.
struct Source {
  Value start;                           ///< of the tensor's row 0, or of what `offsetOf` counts from
  Value stride;                          ///< elements from row to row (i64)
  Value first;                           ///< the tile's first row, counted from `start` (i32)
  Value valid;                           ///< rows of the tile before the tensor's end (i32)
  std::function<Value(Value)> offsetOf;  ///< bytes from `start` to row r (i64); null: first + r strides
};

Source locate(KernelCode &code, const Rows &from, int64_t rows) {
  Emitter &emit = code.emit;
  target::KernelArguments &slots = code.slots;
  const std::string &name = from.tensor;
  Source result;
  result.first = emit.mul(emit.toI32(from.index), emit.i32(rows));
  const std::string &dim = slots.info(name).dims[2];
  const bool listed = slots.listed(dim);
  result.valid = emit.sub(emit.toI32(slots.extent(name)), result.first);
  Value batch = from.batch, head = slots.headOf(name, from.head);
  const bool paged = slots.inPages(name), anywhere = listed && paged;
  if (paged && !listed) {
    // A tile lies in one page. One past the last key, of which nothing is copied, has none of its own.
    Value last = emit.sub(slots.dim(dim), emit.i64(1));
    result.start = slots.row(name, batch, head, emit.min(emit.toI64(result.first), last));
    result.first = emit.i32(0);
  } else {
    result.start = anywhere ? slots.pointer(name) : slots.row(name, batch, head, emit.i64(0));
  }
  Value bytes = emit.i64(bytesOf(slots.info(name).element)), rowBytes = emit.mul(slots.rowStride(name), bytes);
  if (listed)
    result.offsetOf = [&code, name, batch, head, first = emit.toI64(result.first), anywhere, bytes,
                       rowBytes](Value row) {
      Emitter &emit = code.emit;
      Value key = code.keyAt(emit.add(first, row)).first;
      return anywhere ? emit.mul(code.slots.rowOffset(name, batch, head, key), bytes) : emit.mul(key, rowBytes);
    };
  result.stride = slots.rowStride(name);
  return result;
}

/// A thread's share of a copy: chunks of up to 16 bytes; where nothing is read the chunk becomes zero.
class Copy {
 public:
  Copy(KernelCode &code, const Threads &by, const SharedTile &tile, const Source &source)
      : code(code),
        emit(code.emit),
        by(by),
        tile(tile),
        source(source),
        rowBytes(tile.columns() * tile.elementBytes()),
        chunk(rowBytes % 16 == 0  ? 16
              : rowBytes % 8 == 0 ? 8
              : rowBytes % 4 == 0 ? 4
                                  : 2) {}

  void run() {
    const int64_t threads = by.count;
    const int64_t chunks = tile.padded() * tile.elementBytes() / chunk, total = tile.rows() * chunks;
    Value strideBytes = emit.mul(source.stride, emit.i64(tile.elementBytes()));
    // Eight threads in a row write eight chunks of one row or, where rows are narrower, of eight rows.
    const bool byRow = chunks % 8 == 0;
    const int64_t inner = byRow ? chunks : tile.rows();
    // Where whole rows (or columns) of chunks lie between a thread's chunks, each address follows from the last; eight
    // rows on, what is swizzled is as it was.
    const bool sameChunks = !tile.type.isSwizzled() || (byRow && threads / inner % 8 == 0);
    const bool regular = threads % inner == 0 && !source.offsetOf && sameChunks;
    const int64_t rowPitch = tile.type.isSwizzled() ? cta::SwizzledAttr::panelBytes : tile.pitch();
    if (by.few) {
      emit.loop(emit.toI64(by.number), emit.i64(total), by.count, [&](Value at) {
        locateChunk(emit.toI32(at), byRow, inner, strideBytes);
        copyChunk();
      });
      return;
    }
    Value own = code.thread.anchored(by.number);
    Value rowStep = emit.mul(strideBytes, emit.i64(threads / inner));
    for (int64_t first = 0; first < total; first += threads) {
      if (first == 0 || !regular) {
        locateChunk(emit.add(own, emit.i32(first)), byRow, inner, strideBytes);
      } else if (byRow) {
        row = emit.add(row, emit.i32(threads / inner));
        from = emit.at(from, rowStep, byte);
        to = emit.add(to, emit.i32(threads / inner * rowPitch));
      } else {
        const int64_t step = threads / inner * chunk;
        offset = emit.add(offset, emit.i32(step));
        from = emit.at(from, emit.i64(step), byte);
        to = emit.add(to, emit.i32(step));
      }
      if (first + threads <= total) copyChunk();
      else emit.when(emit.less(emit.add(by.number, emit.i32(first)), emit.i32(total)), [&] { copyChunk(); });
    }
  }

 private:
  KernelCode &code;
  Emitter &emit;
  const Threads &by;
  const SharedTile &tile;
  const Source &source;
  const int64_t rowBytes, chunk;
  const mlir::Type byte = emit.b.getIntegerType(8);
  Value row, offset;  ///< i32: of the chunk; its bytes after the row's start
  Value from, to;     ///< its address; bytes after the tile's start

  /// `index`: i32; `inner` chunks lie side by side, in a row or in a column of chunks.
  void locateChunk(Value index, bool byRow, int64_t inner, Value strideBytes) {
    Value major = arith::DivUIOp::create(emit.b, emit.loc, index, emit.i32(inner));
    Value minor = arith::RemUIOp::create(emit.b, emit.loc, index, emit.i32(inner));
    row = byRow ? major : minor;
    offset = emit.mul(byRow ? minor : major, emit.i32(chunk));
    Value start;
    if (source.offsetOf) {
      start = source.offsetOf(emit.toI64(row));
    } else {
      // Unsigned, so that it is one product of 32 by 64 bits.
      Value number = arith::ExtUIOp::create(emit.b, emit.loc, emit.b.getI64Type(), emit.add(source.first, row));
      start = emit.mul(number, strideBytes);
    }
    from = emit.at(source.start, emit.add(start, emit.toI64(offset)), byte);
    to = tile.offsetOf(emit, row, offset);
  }

  void copyChunk() {
    Value inside = emit.less(row, source.valid);
    if (tile.padded() * tile.elementBytes() != rowBytes)
      inside = code.both(inside, emit.less(offset, emit.i32(rowBytes)));
    Value place = emit.at(tile.base, to, byte);
    if (chunk == 2) {
      // Too narrow for cp.async. Where the row does not exist the address is the tensor's first, which does.
      Value address = code.select(inside, from, source.start);
      mlir::Type i16 = emit.b.getIntegerType(16);
      Value zero = arith::ConstantIntOp::create(emit.b, emit.loc, 0, 16);
      emit.store(code.select(inside, emit.load(i16, address, 2), zero), place, 2);
      return;
    }
    // Of none of the source's bytes the address is not looked at.
    nvvm::CpAsyncOp::create(emit.b, emit.loc, place, from, static_cast<uint32_t>(chunk),
                            chunk == 16 ? nvvm::LoadCacheModifierKind::CG : nvvm::LoadCacheModifierKind::CA,
                            code.select(inside, emit.i32(chunk), emit.i32(0)));
  }
};

}  // namespace

bool copiesByThemselves(const SharedTile &tile) { return tile.columns() * tile.elementBytes() % 4 == 0; }

void copyTile(KernelCode &code, const Threads &by, const Rows &from, const SharedTile &to) {
  const Source source = locate(code, from, to.rows());
  Copy(code, by, to, source).run();
}

void clearTile(KernelCode &code, const Threads &by, const SharedTile &to) {
  Emitter &emit = code.emit;
  constexpr int64_t chunk = 16;
  Value zeros =
      arith::ConstantOp::create(emit.b, emit.loc, emit.b.getZeroAttr(mlir::VectorType::get({4}, emit.b.getI32Type())));
  emit.loop(emit.toI64(by.number), emit.i64(to.type.tileBytes() / chunk), by.count, [&](Value at) {
    Value place = emit.at(to.base, emit.mul(emit.toI32(at), emit.i32(chunk)), emit.b.getIntegerType(8));
    emit.store(zeros, place, chunk);
  });
}

/// A thread takes every so many-th number: fewer bytes than a chunk, and of an alignment that only floats have.
void copyNumbers(KernelCode &code, const Threads &by, const Rows &from, double fill, const SharedTile &to) {
  Emitter &emit = code.emit;
  const int64_t count = to.columns();
  Value first = emit.mul(from.index, emit.i64(count));
  Value source = code.slots.row(from.tensor, from.batch, from.head, first);
  Value valid = emit.toI32(emit.min(emit.sub(code.slots.rows(), first), emit.i64(count)));
  Value own = code.thread.anchored(by.number);
  for (int64_t done = 0; done < count; done += by.count) {
    Value at = emit.add(own, emit.i32(done));
    auto copy = [&] {
      Value place = emit.at(to.base, at, code.builder.getF32Type()),
            number = emit.at(source, code.numberAt(emit.toI64(at)));
      Value inside = emit.less(at, valid);
      auto start = [&](Value bytes) {
        nvvm::CpAsyncOp::create(code.builder, emit.loc, place, number, 4, nvvm::LoadCacheModifierKind::CA, bytes);
      };
      // Of no bytes the rest of them is zero.
      if (fill == 0) return start(code.select(inside, emit.i32(4), emit.i32(0)));
      auto branch = mlir::scf::IfOp::create(code.builder, emit.loc, inside, true);
      mlir::OpBuilder::InsertionGuard guard(code.builder);
      code.builder.setInsertionPointToStart(branch.thenBlock());
      start(Value());
      code.builder.setInsertionPointToStart(branch.elseBlock());
      emit.store(emit.constantF(static_cast<float>(fill)), place, 4);
    };
    if (done + by.count <= count) copy();
    else emit.when(emit.less(at, emit.i32(count)), copy);
  }
}

void lower(KernelCode &code, cta::CopyAsyncOp op) {
  copyTile(code, code.allThreads(), code.rowsOf(op.getTensor(), op), code.buffer(op.getBuffer()));
}

void lower(KernelCode &code, cta::CopyRowsAsyncOp op) {
  copyNumbers(code, code.allThreads(), code.rowsOf(op.getTensor(), op), op.getFill().convertToDouble(),
              code.buffer(op.getBuffer()));
}

}  // namespace weft::nvptx
