// Rings of tiles between roles: copies by TMA or, of rows that lie anywhere, by the producer's threads. PTX ISA,
// "cp.async.bulk.tensor".
#include "compiler/target/nvptx/inline_ptx.h"
#include "compiler/target/nvptx/kernel_code.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

namespace weft::nvptx {
namespace {

namespace arith = mlir::arith;
namespace llvmir = mlir::LLVM;
namespace nvvm = mlir::NVVM;

Value addressOf(Emitter &emit, Value sharedPointer) {
  return llvmir::PtrToIntOp::create(emit.b, emit.loc, emit.b.getI32Type(), sharedPointer);
}

SharedTile tileOf(KernelCode &code, const Ring &ring, const Cursor &cursor) {
  Emitter &emit = code.emit;
  Value offset = emit.mul(stageOf(code, cursor), emit.i32(ring.buffer.type.tileBytes()));
  return {ring.buffer.type.stage(), emit.at(ring.buffer.base, offset, code.builder.getIntegerType(8))};
}

/// When the thread's cp.async have all been done.
void arriveAfterCopies(KernelCode &code, Value barrier) {
  code.ptx("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [$0];", "r", {barrier});
}

/// The producer's second warp: the first has the thread that copies by TMA.
Threads lineCopiers(KernelCode &code) { return {code.emit.sub(code.producers().number, code.emit.i32(32)), 32, true}; }

void expectBytes(KernelCode &code, Value barrier, Value bytes) {
  code.ptx("mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], $1;", "r,r", {barrier, bytes});
}

/// By one thread: a box of 128 bytes a row for each panel of the tile.
void copyBoxes(KernelCode &code, const Ring &ring, const Cursor &cursor, const Rows &from) {
  Emitter &emit = code.emit;
  const SharedTile tile = tileOf(code, ring, cursor);
  Value full = barrierOf(code, ring.barriers, cursor, Side::Full);
  expectBytes(code, full, emit.i32(tile.type.tileBytes()));
  Value map = llvmir::PtrToIntOp::create(emit.b, emit.loc, emit.b.getI64Type(),
                                         emit.at(code.arguments, emit.i64(TensorMapSlot::bytes * ring.map),
                                                 emit.b.getIntegerType(8)));
  Value row = emit.toI32(emit.mul(from.index, emit.i64(tile.rows())));
  Value head = emit.toI32(code.slots.headOf(ring.tensor, from.head)), batch = emit.toI32(from.batch);
  const int64_t panelColumns = TensorMapSlot::boxBytes / tile.elementBytes();
  Value to = addressOf(emit, tile.base);
  for (int64_t panel = 0; panel * panelColumns < tile.columns(); ++panel)
    code.ptx(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [$0], "
        "[$1, {$2, $3, $4, $5}], [$6];",
        "r,l,r,r,r,r,r",
        {emit.add(to, emit.i32(panel * tile.type.panelBytes())), map, emit.i32(panel * panelColumns), row, head, batch,
         full});
}

/// By `lineCopiers`, of which each arrives twice: for what cp.async copies and for what it writes itself.
void copyLine(KernelCode &code, cta::FillOp op, const Ring &ring, const Cursor &cursor, const Rows &from) {
  Value full = barrierOf(code, ring.barriers, cursor, Side::Full);
  copyNumbers(code, lineCopiers(code), from, op.getPad()->convertToDouble(), tileOf(code, ring, cursor));
  arriveAfterCopies(code, full);
  arrive(code, full);
}

/// By all the producer's threads, which do not wait for what cp.async copies.
void copyShares(KernelCode &code, cta::FillOp op, const Ring &ring, const Cursor &cursor, const Rows &from) {
  const SharedTile tile = tileOf(code, ring, cursor);
  Value full = barrierOf(code, ring.barriers, cursor, Side::Full);
  if (op.getZeros()) clearTile(code, code.producers(), tile);
  else copyTile(code, code.producers(), from, tile);
  if (!op.getZeros() && copiesByThemselves(tile)) return arriveAfterCopies(code, full);
  nvvm::CpAsyncCommitGroupOp::create(code.builder, code.emit.loc);
  nvvm::CpAsyncWaitGroupOp::create(code.builder, code.emit.loc, 0);
  code.fenceAsync();
  arrive(code, full);
}

/// i32: zero, though no assembler knows: no square has bit 1.
Value zeroOnceThere(KernelCode &code, const Registers &numbers) {
  Emitter &emit = code.emit;
  Value bits;
  for (Value number : numbers) {
    Value own = arith::BitcastOp::create(emit.b, emit.loc, emit.b.getI32Type(), number);
    bits = bits ? Value(arith::XOrIOp::create(emit.b, emit.loc, bits, own)) : own;
  }
  return inlinePtx(emit.b, emit.loc, bits.getType(),
                   "{\n.reg .b32 square;\nmul.lo.u32 square, $1, $1;\nand.b32 $0, square, 2;\n}", "=r,r", bits,
                   /*sideEffects=*/false);
}

}  // namespace

std::optional<TensorMapSlot> mapOf(const target::KernelArguments &slots, cta::RingOp ring) {
  const std::string tensor = ring.getTensor().str();
  if (!ring.bufferType().isSwizzled() || slots.listed(slots.info(tensor).dims[2]) || slots.inPages(tensor) ||
      slots.headRows())
    return {};
  return TensorMapSlot{tensor, static_cast<int>(ring.bufferType().rows())};
}

void lower(KernelCode &code, cta::RingOp op) {
  Emitter &emit = code.emit;
  internalCheck(op.getBarriers().has_value(), "nvptx lowering", "a ring without a place");
  Ring ring{code.buffer(op.getBuffer()), op.getTensor().str(), {}, {}, -1};
  ring.barriers = emit.add(addressOf(emit, code.sharedBase), emit.i32(static_cast<int64_t>(*op.getBarriers())));
  if (op.getCarries()) ring.words = emit.add(ring.barriers, emit.i32(op.barrierBytes()));
  if (const auto map = mapOf(code.slots, op)) ring.map = std::distance(code.maps.begin(), llvm::find(code.maps, *map));
  // Of shares the thread that writes the word arrives once more.
  const int64_t fillers = ring.isNumbers() ? 2 * 32 : ring.isShared() ? producerThreads + op.getCarries() : 1;
  emit.when(emit.equals(code.thread.number, 0),
            [&] { initBarriers(code, ring.barriers, ring.buffer.type.stages(), fillers, code.thread.warps); });
  code.rings[op.getResult()] = ring;
}

void lower(KernelCode &code, cta::AdvanceOp op) { advance(code, code.cursors.at(op.getCursor())); }

void lower(KernelCode &code, cta::FillOp op) {
  Emitter &emit = code.emit;
  const Ring &ring = code.rings.at(op.getRing());
  const Cursor &cursor = code.cursors.at(op.getCursor());
  const Rows from = code.rowsOf(ring.tensor, op);
  auto fill = [&](auto copy) {
    waitEmpty(code, ring.barriers, cursor);
    copy();
  };
  auto carry = [&] {
    Value full = arith::ExtUIOp::create(emit.b, emit.loc, emit.b.getI32Type(), code.scalar(op.getFull()));
    Value twice = arith::ShLIOp::create(emit.b, emit.loc, emit.toI32(from.index), emit.i32(1));
    storeWord(code, arith::OrIOp::create(emit.b, emit.loc, twice, full), wordOf(code, ring.words, cursor));
  };
  if (ring.isNumbers()) {
    Value warp = arith::ShRUIOp::create(emit.b, emit.loc, code.producers().number, emit.i32(5));
    return emit.when(emit.equals(warp, 1), [&] { fill([&] { copyLine(code, op, ring, cursor, from); }); });
  }
  Value first = emit.equals(code.producers().number, 0);
  if (ring.isShared())
    return fill([&] {
      if (ring.words)
        emit.when(first, [&] {
          carry();
          arrive(code, barrierOf(code, ring.barriers, cursor, Side::Full));
        });
      copyShares(code, op, ring, cursor, from);
    });
  // TMA writes zeros for rows past the end.
  Rows own = from;
  if (op.getZeros()) own.index = emit.i64(largestExtent / ring.buffer.rows() + 1);
  emit.when(first, [&] {
    fill([&] {
      if (ring.words) carry();
      copyBoxes(code, ring, cursor, own);
    });
  });
}

void lower(KernelCode &code, cta::AcquireOp op) {
  const Ring &ring = code.rings.at(op.getRing());
  const Cursor &cursor = code.cursors.at(op.getCursor());
  waitFull(code, ring.barriers, cursor);
  // Products read by the async proxy what the producer's threads have copied.
  if (ring.isShared()) code.fenceAsync();
  code.buffers[op.getResult()] = tileOf(code, ring, cursor);
}

void lower(KernelCode &code, cta::CarriedOp op) {
  Emitter &emit = code.emit;
  Value word = loadWord(code, wordOf(code, code.rings.at(op.getRing()).words, code.cursors.at(op.getCursor())));
  word = code.thread.firstLanes(word);
  Value index = arith::ShRUIOp::create(emit.b, emit.loc, word, emit.i32(1));
  code.scalars[op.getIndex()] = arith::ExtUIOp::create(emit.b, emit.loc, emit.b.getI64Type(), index);
  code.scalars[op.getFull()] = arith::TruncIOp::create(emit.b, emit.loc, emit.b.getI1Type(), word);
}

void lower(KernelCode &code, cta::ReleaseOp op) {
  Emitter &emit = code.emit;
  const Ring &ring = code.rings.at(op.getRing());
  Value empty = barrierOf(code, ring.barriers, code.cursors.at(op.getCursor()), Side::Empty);
  if (op.getAfter()) empty = emit.add(empty, zeroOnceThere(code, code.registersOf(op.getAfter())));
  arriveOnce(code, empty);
}

}  // namespace weft::nvptx
