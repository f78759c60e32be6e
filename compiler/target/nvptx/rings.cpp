// Roles of warps, and the rings of tiles between them: mbarriers, and copies by TMA or, of rows that do not lie as it
// wants them, by the producer's threads. PTX ISA, "mbarrier", "cp.async.bulk.tensor".
#include "compiler/target/nvptx/kernel_code.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

namespace weft::nvptx {
namespace {

namespace arith = mlir::arith;
namespace llvmir = mlir::LLVM;
namespace nvvm = mlir::NVVM;

constexpr int64_t barrierBytes = 8;

Value equals(Emitter &emit, Value x, int64_t value) {
  return arith::CmpIOp::create(emit.b, emit.loc, arith::CmpIPredicate::eq, x, emit.i32(value));
}

Value addressOf(Emitter &emit, Value sharedPointer) {
  return llvmir::PtrToIntOp::create(emit.b, emit.loc, emit.b.getI32Type(), sharedPointer);
}

Value read(Emitter &emit, Value variable) { return emit.load(emit.b.getI32Type(), variable); }

enum class Side { Full, Empty };

/// i32: the mbarrier of the tile that the cursor has come to.
Value barrierOf(KernelCode &code, const Ring &ring, const Cursor &cursor, Side side) {
  Emitter &emit = code.emit;
  const int64_t first = side == Side::Full ? 0 : barrierBytes * cursor.stages;
  Value base = emit.add(ring.barriers, emit.i32(first));
  return emit.add(base, emit.mul(read(emit, cursor.stage), emit.i32(barrierBytes)));
}

SharedTile tileOf(KernelCode &code, const Ring &ring, const Cursor &cursor) {
  Emitter &emit = code.emit;
  Value offset = emit.mul(read(emit, cursor.stage), emit.i32(ring.buffer.type.tileBytes()));
  return {ring.buffer.type.stage(), emit.at(ring.buffer.base, offset, code.builder.getIntegerType(8))};
}

/// Until the phase of that parity is over.
void wait(KernelCode &code, Value barrier, Value parity) {
  code.ptx(
      "{\n.reg .pred over;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 over, [$0], $1;\n@!over bra again;\n}",
      "r,r", {barrier, parity});
}

void waitFull(KernelCode &code, const Ring &ring, const Cursor &cursor) {
  wait(code, barrierOf(code, ring, cursor, Side::Full), read(code.emit, cursor.phase));
}

/// The first time around the tiles are empty: the phase before the first counts as over.
void waitEmpty(KernelCode &code, const Ring &ring, const Cursor &cursor) {
  Emitter &emit = code.emit;
  Value parity = arith::XOrIOp::create(emit.b, emit.loc, read(emit, cursor.phase), emit.i32(1));
  wait(code, barrierOf(code, ring, cursor, Side::Empty), parity);
}

void arrive(KernelCode &code, Value barrier) { code.ptx("mbarrier.arrive.shared::cta.b64 _, [$0];", "r", {barrier}); }

bool isNumbers(const Ring &ring) { return !ring.buffer.type.isSwizzled(); }

/// i1: whether one thread can copy a tile (TMA); null: never. Of tiles it reads rows that lie one after another, as the
/// call knows; of numbers whole chunks of 16 bytes.
Value inBulk(KernelCode &code, const Ring &ring) {
  Emitter &emit = code.emit;
  target::KernelArguments &slots = code.slots;
  if (!isNumbers(ring)) {
    const bool anywhere = slots.listed(slots.info(ring.tensor).dims[2]) || slots.inPages(ring.tensor);
    return anywhere ? Value() : slots.mapped(ring.tensor);
  }
  mlir::Type i64 = emit.b.getI64Type();
  Value start = llvmir::PtrToIntOp::create(emit.b, emit.loc, i64, slots.pointer(ring.tensor));
  Value rowBytes = emit.mul(slots.dim("T"), emit.i64(4));
  Value rest =
      arith::AndIOp::create(emit.b, emit.loc, arith::OrIOp::create(emit.b, emit.loc, start, rowBytes), emit.i64(15));
  return arith::CmpIOp::create(emit.b, emit.loc, arith::CmpIPredicate::eq, rest, emit.i64(0));
}

void expectBytes(KernelCode &code, Value barrier, Value bytes) {
  code.ptx("mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], $1;", "r,r", {barrier, bytes});
}

/// By one thread: a box of 128 bytes a row for each panel of the tile.
void copyBoxes(KernelCode &code, const Ring &ring, const Cursor &cursor, const Rows &from) {
  Emitter &emit = code.emit;
  const SharedTile tile = tileOf(code, ring, cursor);
  Value full = barrierOf(code, ring, cursor, Side::Full);
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
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [$0], [$1, {$2, $3, $4, "
        "$5}], "
        "[$6];",
        "r,l,r,r,r,r,r",
        {emit.add(to, emit.i32(panel * tile.type.panelBytes())), map, emit.i32(panel * panelColumns), row, head, batch,
         full});
}

/// By one thread: one line, behind it `pad`.
void copyLine(KernelCode &code, const Ring &ring, const Cursor &cursor, const Rows &from, double pad) {
  Emitter &emit = code.emit;
  const SharedTile tile = tileOf(code, ring, cursor);
  Value full = barrierOf(code, ring, cursor, Side::Full), count = emit.i64(tile.columns());
  Value first = emit.mul(from.index, count);
  Value valid = emit.max(emit.min(emit.sub(code.slots.dim("T"), first), count), emit.i64(0));
  emit.loop(valid, count, 1, [&](Value at) {
    emit.store(emit.constantF(static_cast<float>(pad)), emit.at(tile.base, emit.toI32(at)), 4);
  });
  Value bytes = emit.toI32(emit.mul(valid, emit.i64(4)));
  expectBytes(code, full, bytes);
  Value source = llvmir::PtrToIntOp::create(emit.b, emit.loc, emit.b.getI64Type(),
                                            code.slots.row(from.tensor, from.batch, from.head, first));
  emit.when(emit.less(emit.i32(0), bytes), [&] {
    code.ptx("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [$0], [$1], $2, [$3];", "r,l,r,r",
             {addressOf(emit, tile.base), source, bytes, full});
  });
}

/// By all the producer's threads.
void copyShares(KernelCode &code, cta::FillOp op, const Ring &ring, const Cursor &cursor, const Rows &from) {
  const SharedTile tile = tileOf(code, ring, cursor);
  if (op.getZeros()) clearTile(code, code.producers(), tile);
  else if (op.getPad()) copyNumbers(code, code.producers(), from, op.getPad()->convertToDouble(), tile);
  else copyTile(code, code.producers(), from, tile);
  nvvm::CpAsyncCommitGroupOp::create(code.builder, code.emit.loc);
  nvvm::CpAsyncWaitGroupOp::create(code.builder, code.emit.loc, 0);
  // Products read it by the async proxy.
  if (!isNumbers(ring)) code.ptx("fence.proxy.async.shared::cta;", "", {});
  arrive(code, barrierOf(code, ring, cursor, Side::Full));
}

/// i32: zero, though no assembler knows: no square has bit 1.
Value zeroOnceThere(KernelCode &code, const Registers &numbers) {
  Emitter &emit = code.emit;
  Value bits;
  for (Value number : numbers) {
    Value own = arith::BitcastOp::create(emit.b, emit.loc, emit.b.getI32Type(), number);
    bits = bits ? Value(arith::XOrIOp::create(emit.b, emit.loc, bits, own)) : own;
  }
  return llvmir::InlineAsmOp::create(emit.b, emit.loc, mlir::TypeRange{bits.getType()}, mlir::ValueRange{bits},
                                     "{\n.reg .b32 square;\nmul.lo.u32 square, $1, $1;\nand.b32 $0, square, 2;\n}",
                                     "=r,r",
                                     /*has_side_effects=*/false, /*is_align_stack=*/false,
                                     llvmir::tailcallkind::TailCallKind::None, llvmir::AsmDialectAttr(),
                                     mlir::ArrayAttr())
      .getResult(0);
}

/// Of a thread of each role.
struct RoleRegisters {
  bool apart;  ///< they differ from what a thread begins with
  int64_t producer, consumer;
};

/// A warpgroup that copies leaves its registers to those that multiply. A block has what its threads begin with: their
/// share of the 64 Ki of an SM, 512 for each thread of a warpgroup, among `residents` blocks. They are dealt out in
/// eights, from 24 on.
RoleRegisters registersOf(int64_t consumers, int64_t residents) {
  constexpr int64_t all = 512, least = 24, most = 240, mostAtFirst = 255;
  const int64_t groups = consumers + 1, first = all / residents / groups / 8 * 8;
  if (first > mostAtFirst) return {false, 0, 0};
  const int64_t consumer = std::min((first * groups - least) / consumers / 8 * 8, most);
  return {true, first * groups - consumers * consumer, consumer};
}

}  // namespace

void lower(KernelCode &code, cta::RingOp op) {
  Emitter &emit = code.emit;
  internalCheck(op.getBarriers().has_value(), "nvptx lowering", "a ring without a place");
  Ring ring{code.buffer(op.getBuffer()), op.getTensor().str(), {}, {}};
  ring.barriers = emit.add(addressOf(emit, code.sharedBase), emit.i32(static_cast<int64_t>(*op.getBarriers())));
  const TensorMapSlot map{ring.tensor, static_cast<int>(ring.buffer.rows())};
  ring.bulk = inBulk(code, ring);
  if (!isNumbers(ring)) ring.map = std::distance(code.maps.begin(), llvm::find(code.maps, map));
  Value fillers = emit.i32(KernelCode::producerThreads), readers = emit.i32(code.thread.warps);
  if (ring.bulk) fillers = code.select(ring.bulk, emit.i32(1), fillers);
  const int64_t stages = ring.buffer.type.stages();
  emit.when(equals(emit, code.thread.number, 0), [&] {
    for (int64_t at = 0; at < 2 * stages; ++at)
      code.ptx("mbarrier.init.shared::cta.b64 [$0], $1;", "r,r",
               {emit.add(ring.barriers, emit.i32(barrierBytes * at)), at < stages ? fillers : readers});
  });
  code.rings[op.getResult()] = ring;
}

void lower(KernelCode &code, cta::CursorOp op) {
  Emitter &emit = code.emit;
  auto variable = [&] {
    mlir::OpBuilder::InsertionGuard guard(code.builder);
    code.builder.setInsertionPointToStart(code.entry);
    return Value(llvmir::AllocaOp::create(code.builder, emit.loc,
                                          llvmir::LLVMPointerType::get(code.builder.getContext()),
                                          code.builder.getI32Type(), emit.i32(1)));
  };
  const Cursor cursor{static_cast<int64_t>(op.getStages()), variable(), variable()};
  emit.store(emit.i32(0), cursor.stage);
  emit.store(emit.i32(0), cursor.phase);
  code.cursors[op.getResult()] = cursor;
}

void lower(KernelCode &code, cta::AdvanceOp op) {
  Emitter &emit = code.emit;
  const Cursor &cursor = code.cursors.at(op.getCursor());
  Value turned = arith::XOrIOp::create(emit.b, emit.loc, read(emit, cursor.phase), emit.i32(1));
  if (cursor.stages == 1) return emit.store(turned, cursor.phase);
  Value next = emit.add(read(emit, cursor.stage), emit.i32(1));
  Value around = equals(emit, next, cursor.stages);
  emit.store(code.select(around, emit.i32(0), next), cursor.stage);
  emit.store(code.select(around, turned, read(emit, cursor.phase)), cursor.phase);
}

void lower(KernelCode &code, cta::FillOp op) {
  Emitter &emit = code.emit;
  const Ring &ring = code.rings.at(op.getRing());
  const Cursor &cursor = code.cursors.at(op.getCursor());
  const Rows from{ring.tensor, code.scalar(op.getBatch()), code.scalar(op.getHead()), code.scalar(op.getIndex())};
  auto byThreads = [&] {
    waitEmpty(code, ring, cursor);
    copyShares(code, op, ring, cursor, from);
  };
  if (!ring.bulk) return byThreads();
  auto byOne = [&] {
    waitEmpty(code, ring, cursor);
    if (op.getPad()) return copyLine(code, ring, cursor, from, op.getPad()->convertToDouble());
    // TMA writes zeros for rows past the end.
    Rows own = from;
    if (op.getZeros()) {
      const std::string &dim = code.slots.info(ring.tensor).dims[2];
      own.index = target::tileCount(emit, code.slots, dim, ring.buffer.rows());
    }
    copyBoxes(code, ring, cursor, own);
  };
  emit.choose(ring.bulk, [&] { emit.when(equals(emit, code.producers().number, 0), byOne); }, byThreads);
}

void lower(KernelCode &code, cta::AcquireOp op) {
  const Ring &ring = code.rings.at(op.getRing());
  const Cursor &cursor = code.cursors.at(op.getCursor());
  waitFull(code, ring, cursor);
  code.buffers[op.getResult()] = tileOf(code, ring, cursor);
}

void lower(KernelCode &code, cta::ReleaseOp op) {
  Emitter &emit = code.emit;
  const Ring &ring = code.rings.at(op.getRing());
  Value empty = barrierOf(code, ring, code.cursors.at(op.getCursor()), Side::Empty);
  if (op.getAfter()) empty = emit.add(empty, zeroOnceThere(code, code.registersOf(op.getAfter())));
  nvvm::SyncWarpOp::create(emit.b, emit.loc, emit.i32(-1));
  emit.when(equals(emit, code.thread.lane, 0), [&] { arrive(code, empty); });
}

void lower(KernelCode &code, cta::RolesOp op) {
  Emitter &emit = code.emit;
  code.hasRoles = true;
  // The mbarriers are there, for TMA as well.
  code.ptx("fence.mbarrier_init.release.cluster;", "", {});
  nvvm::BarrierOp::create(code.builder, emit.loc);
  // The same in all threads of a warp, and known to be.
  Value warp = nvvm::ShflOp::create(emit.b, emit.loc, emit.b.getI32Type(), emit.i32(-1), code.thread.warp, emit.i32(0),
                                    emit.i32(31), nvvm::ShflKind::idx, mlir::UnitAttr());
  const RoleRegisters registers = registersOf(code.thread.warps / 4, code.residents);
  auto take = [&](const char *change, int64_t count) {
    if (!registers.apart) return;
    code.ptx(std::string("setmaxnreg.") + change + ".sync.aligned.u32 " + std::to_string(count) + ";", "", {});
  };
  auto consume = [&] {
    take("inc", registers.consumer);
    code.lower(op.getConsumers().front());
  };
  auto produce = [&] {
    take("dec", registers.producer);
    code.lower(op.getProducer().front());
  };
  emit.choose(emit.less(warp, emit.i32(code.thread.warps)), consume, produce);
}

}  // namespace weft::nvptx
