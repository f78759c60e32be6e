#include "compiler/target/nvptx/mbarriers.h"

#include "compiler/target/nvptx/inline_ptx.h"
#include "compiler/target/nvptx/kernel_code.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

namespace weft::nvptx {
namespace {

namespace arith = mlir::arith;
namespace llvmir = mlir::LLVM;

constexpr int64_t barrierBytes = cta::RingOp::bytesOfBarrier;

Value read(Emitter &emit, Value variable) { return emit.load(emit.b.getI32Type(), variable); }

/// Until the phase of that parity is over.
void wait(KernelCode &code, Value barrier, Value parity) {
  code.ptx(
      "{\n.reg .pred over;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 over, [$0], $1;\n@!over bra again;\n}",
      "r,r", {barrier, parity});
}

}  // namespace

Cursor beginCursor(KernelCode &code, int64_t stages) {
  Emitter &emit = code.emit;
  auto variable = [&] {
    mlir::OpBuilder::InsertionGuard guard(code.builder);
    code.builder.setInsertionPointToStart(code.entry);
    return Value(llvmir::AllocaOp::create(code.builder, emit.loc,
                                          llvmir::LLVMPointerType::get(code.builder.getContext()),
                                          code.builder.getI32Type(), emit.i32(1)));
  };
  const Cursor cursor{stages, variable(), variable(), false};
  emit.store(emit.i32(0), cursor.stage);
  emit.store(emit.i32(0), cursor.phase);
  return cursor;
}

void advance(KernelCode &code, const Cursor &cursor) {
  if (cursor.ofPrograms) return;
  Emitter &emit = code.emit;
  Value turned = arith::XOrIOp::create(emit.b, emit.loc, read(emit, cursor.phase), emit.i32(1));
  if (cursor.stages == 1) return emit.store(turned, cursor.phase);
  Value next = emit.add(read(emit, cursor.stage), emit.i32(1));
  Value around = emit.equals(next, cursor.stages);
  emit.store(code.select(around, emit.i32(0), next), cursor.stage);
  emit.store(code.select(around, turned, read(emit, cursor.phase)), cursor.phase);
}

Value stageOf(KernelCode &code, const Cursor &cursor) { return read(code.emit, cursor.stage); }

Value wordOf(KernelCode &code, Value words, const Cursor &cursor) {
  Emitter &emit = code.emit;
  return emit.add(words, emit.mul(stageOf(code, cursor), emit.i32(cta::RingOp::bytesOfWord)));
}

void initBarriers(KernelCode &code, Value barriers, int64_t stages, int64_t fillers, int64_t readers) {
  Emitter &emit = code.emit;
  for (int64_t at = 0; at < 2 * stages; ++at)
    code.ptx("mbarrier.init.shared::cta.b64 [$0], $1;", "r,r",
             {emit.add(barriers, emit.i32(barrierBytes * at)), emit.i32(at < stages ? fillers : readers)});
}

Value barrierOf(KernelCode &code, Value barriers, const Cursor &cursor, Side side) {
  Emitter &emit = code.emit;
  const int64_t first = side == Side::Full ? 0 : barrierBytes * cursor.stages;
  Value base = emit.add(barriers, emit.i32(first));
  return emit.add(base, emit.mul(stageOf(code, cursor), emit.i32(barrierBytes)));
}

void waitFull(KernelCode &code, Value barriers, const Cursor &cursor) {
  wait(code, barrierOf(code, barriers, cursor, Side::Full), read(code.emit, cursor.phase));
}

void waitEmpty(KernelCode &code, Value barriers, const Cursor &cursor) {
  // The phase before the first counts as over.
  Emitter &emit = code.emit;
  Value parity = arith::XOrIOp::create(emit.b, emit.loc, read(emit, cursor.phase), emit.i32(1));
  wait(code, barrierOf(code, barriers, cursor, Side::Empty), parity);
}

void arrive(KernelCode &code, Value barrier) { code.ptx("mbarrier.arrive.shared::cta.b64 _, [$0];", "r", {barrier}); }

void arriveOnce(KernelCode &code, Value barrier) {
  Emitter &emit = code.emit;
  mlir::NVVM::SyncWarpOp::create(emit.b, emit.loc, emit.i32(-1));
  Value first = emit.equals(code.thread.lane, 0);
  emit.when(first, [&] { arrive(code, barrier); });
}

Value loadWord(KernelCode &code, Value address) {
  return inlinePtx(code.emit.b, code.emit.loc, code.emit.b.getI32Type(), "ld.shared.b32 $0, [$1];", "=r,r,~{memory}",
                   address);
}

void storeWord(KernelCode &code, Value number, Value address) {
  code.ptx("st.shared.b32 [$0], $1;", "r,r", {address, number});
}

}  // namespace weft::nvptx
