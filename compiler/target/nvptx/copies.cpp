// Buffers in shared memory: where they are, asynchronous copies to them, groups, waits, barriers.
#include "compiler/target/nvptx/kernel_code.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

namespace weft::nvptx {
namespace {

namespace arith = mlir::arith;
namespace nvvm = mlir::NVVM;

/// Rows of a tensor in memory.
struct Source {
  Value start;                           ///< of row 0, or of what `offsetOf` counts from
  Value stride;                          ///< elements from row to row (i64)
  Value valid;                           ///< rows inside the tensor, at most the tile's (i32)
  std::function<Value(Value)> offsetOf;  ///< bytes from `start` to row r (i64); null: r strides
};

Source locate(KernelCode &code, cta::CopyAsyncOp op) {
  Emitter &emit = code.emit;
  target::KernelArguments &slots = code.slots;
  const std::string name = op.getTensor().str();
  const int64_t rows = code.buffer(op.getBuffer()).rows();
  Source result;
  Value first = emit.mul(code.scalar(op.getIndex()), emit.i64(rows));
  const std::string &dim = slots.info(name).dims[2];
  const bool listed = slots.listed(dim);
  result.valid = emit.toI32(emit.min(emit.sub(slots.dim(slots.keyExtent(dim)), first), emit.i64(rows)));
  Value batch = code.scalar(op.getBatch()), head = slots.headOf(name, code.scalar(op.getHead()));
  const bool anywhere = listed && slots.inPages(name);
  result.start = anywhere ? slots.pointer(name) : slots.row(name, batch, head, listed ? emit.i64(0) : first);
  Value bytes = emit.i64(bytesOf(slots.info(name).element)), rowBytes = emit.mul(slots.stride(name, 2), bytes);
  if (listed)
    result.offsetOf = [&code, name, batch, head, first, anywhere, bytes, rowBytes](Value row) {
      Emitter &emit = code.emit;
      Value key = code.keyAt(emit.add(first, row)).first;
      return anywhere ? emit.mul(code.slots.rowOffset(name, batch, head, key), bytes) : emit.mul(key, rowBytes);
    };
  result.stride = slots.stride(name, 2);
  return result;
}

/// A thread's share of a copy: chunks of up to 16 bytes; where nothing is read the chunk becomes zero.
class Copy {
 public:
  Copy(KernelCode &code, const SharedTile &tile, const Source &source)
      : code(code),
        emit(code.emit),
        tile(tile),
        source(source),
        rowBytes(tile.columns() * tile.elementBytes()),
        chunk(rowBytes % 16 == 0  ? 16
              : rowBytes % 8 == 0 ? 8
              : rowBytes % 4 == 0 ? 4
                                  : 2) {}

  void run() {
    const int64_t threads = code.thread.threads();
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
    Value own = code.thread.anchored(code.thread.number);
    Value rowStep = emit.mul(strideBytes, emit.i64(threads / inner));
    for (int64_t first = 0; first < total; first += threads) {
      if (first == 0 || !regular) {
        Value index = emit.add(own, emit.i32(first));
        Value major = arith::DivUIOp::create(emit.b, emit.loc, index, emit.i32(inner));
        Value minor = arith::RemUIOp::create(emit.b, emit.loc, index, emit.i32(inner));
        row = byRow ? major : minor;
        offset = emit.mul(byRow ? minor : major, emit.i32(chunk));
        Value start = source.offsetOf ? source.offsetOf(emit.toI64(row)) : emit.mul(emit.toI64(row), strideBytes);
        from = emit.add(start, emit.toI64(offset));
        to = tile.offsetOf(emit, row, offset);
      } else if (byRow) {
        row = emit.add(row, emit.i32(threads / inner));
        from = emit.add(from, rowStep);
        to = emit.add(to, emit.i32(threads / inner * rowPitch));
      } else {
        const int64_t step = threads / inner * chunk;
        offset = emit.add(offset, emit.i32(step));
        from = emit.add(from, emit.i64(step));
        to = emit.add(to, emit.i32(step));
      }
      if (first + threads <= total) copyChunk();
      else emit.when(emit.less(emit.add(code.thread.number, emit.i32(first)), emit.i32(total)), [&] { copyChunk(); });
    }
  }

 private:
  KernelCode &code;
  Emitter &emit;
  const SharedTile &tile;
  const Source &source;
  const int64_t rowBytes, chunk;
  Value row, offset;  ///< i32: of the chunk; its bytes after the row's start
  Value from, to;     ///< bytes after the source's and the tile's start

  void copyChunk() {
    mlir::Type byte = emit.b.getIntegerType(8);
    Value inside = emit.less(row, source.valid);
    if (tile.padded() * tile.elementBytes() != rowBytes)
      inside = code.both(inside, emit.less(offset, emit.i32(rowBytes)));
    Value place = emit.at(tile.base, to, byte);
    if (chunk == 2) {
      // Too narrow for cp.async. Where the row does not exist the address is the tile's first, which does.
      Value address = emit.at(source.start, code.select(inside, from, emit.i64(0)), byte);
      mlir::Type i16 = emit.b.getIntegerType(16);
      Value zero = arith::ConstantIntOp::create(emit.b, emit.loc, 0, 16);
      emit.store(code.select(inside, emit.load(i16, address, 2), zero), place, 2);
      return;
    }
    // Of none of the source's bytes the address is not looked at.
    Value address = emit.at(source.start, from, byte);
    nvvm::CpAsyncOp::create(emit.b, emit.loc, place, address, static_cast<uint32_t>(chunk),
                            chunk == 16 ? nvvm::LoadCacheModifierKind::CG : nvvm::LoadCacheModifierKind::CA,
                            code.select(inside, emit.i32(chunk), emit.i32(0)));
  }
};

}  // namespace

void lower(KernelCode &code, cta::AllocOp op) {
  internalCheck(op.getOffset().has_value(), "nvptx lowering", "a buffer without a place");
  Value offset = code.emit.i32(static_cast<int64_t>(*op.getOffset()));
  code.buffers[op.getResult()] = {op.getResult().getType(),
                                  code.emit.at(code.sharedBase, offset, code.builder.getIntegerType(8))};
}

void lower(KernelCode &code, cta::StageOp op) {
  const SharedTile whole = code.buffer(op.getBuffer());
  Value offset = code.emit.mul(code.plan.plain(op.getIndex()), code.emit.i32(whole.type.tileBytes()));
  code.buffers[op.getResult()] = {op.getResult().getType(),
                                  code.emit.at(whole.base, offset, code.builder.getIntegerType(8))};
}

void lower(KernelCode &code, cta::CopyAsyncOp op) {
  const SharedTile tile = code.buffer(op.getBuffer());
  const Source source = locate(code, op);
  Copy(code, tile, source).run();
}

/// A thread takes every so many-th number: fewer bytes than a chunk, and of an alignment that only floats have.
void lower(KernelCode &code, cta::CopyRowsAsyncOp op) {
  Emitter &emit = code.emit;
  const SharedTile row = code.buffer(op.getBuffer());
  const int64_t count = row.columns(), threads = code.thread.threads();
  Value first = emit.mul(code.scalar(op.getIndex()), emit.i64(count));
  Value source = code.slots.row(op.getTensor().str(), code.scalar(op.getBatch()), code.scalar(op.getHead()), first);
  Value valid = emit.toI32(emit.min(emit.sub(code.slots.dim("T"), first), emit.i64(count)));
  const double fill = op.getFill().convertToDouble();
  Value own = code.thread.anchored(code.thread.number);
  for (int64_t done = 0; done < count; done += threads) {
    Value at = emit.add(own, emit.i32(done));
    auto copy = [&] {
      Value to = emit.at(row.base, at, code.builder.getF32Type()), from = emit.at(source, emit.toI64(at));
      Value inside = emit.less(at, valid);
      auto start = [&](Value bytes) {
        nvvm::CpAsyncOp::create(code.builder, emit.loc, to, from, 4, nvvm::LoadCacheModifierKind::CA, bytes);
      };
      // Of no bytes the rest of them is zero.
      if (fill == 0) return start(code.select(inside, emit.i32(4), emit.i32(0)));
      auto branch = mlir::scf::IfOp::create(code.builder, emit.loc, inside, true);
      mlir::OpBuilder::InsertionGuard guard(code.builder);
      code.builder.setInsertionPointToStart(branch.thenBlock());
      start(Value());
      code.builder.setInsertionPointToStart(branch.elseBlock());
      emit.store(emit.constantF(static_cast<float>(fill)), to, 4);
    };
    if (done + threads <= count) copy();
    else emit.when(emit.less(at, emit.i32(count)), copy);
  }
}

void lower(KernelCode &code, cta::CommitGroupOp) { nvvm::CpAsyncCommitGroupOp::create(code.builder, code.emit.loc); }
void lower(KernelCode &code, cta::WaitGroupOp op) {
  nvvm::CpAsyncWaitGroupOp::create(code.builder, code.emit.loc, op.getLeft());
}
void lower(KernelCode &code, cta::FenceAsyncOp) {
  mlir::MLIRContext *context = code.builder.getContext();
  nvvm::FenceProxyOp::create(code.builder, code.emit.loc,
                             nvvm::ProxyKindAttr::get(context, nvvm::ProxyKind::async_shared),
                             nvvm::SharedSpaceAttr::get(context, nvvm::SharedSpace::shared_cta));
}
void lower(KernelCode &code, cta::BarrierOp) { nvvm::BarrierOp::create(code.builder, code.emit.loc); }

}  // namespace weft::nvptx
