#include "compiler/target/nvptx/thread.h"

#include "compiler/target/nvptx/inline_ptx.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

namespace weft::nvptx {

namespace arith = mlir::arith;
namespace nvvm = mlir::NVVM;

void Thread::begin() {
  number = nvvm::ThreadIdXOp::create(emit.b, emit.loc, emit.b.getI32Type());
  auto shift = [&](Value x, int by) { return Value(arith::ShRUIOp::create(emit.b, emit.loc, x, emit.i32(by))); };
  auto bits = [&](Value x, int mask) { return Value(arith::AndIOp::create(emit.b, emit.loc, x, emit.i32(mask))); };
  warp = shift(number, 5);
  lane = bits(number, 31);
  group = shift(lane, 2);
  quad = bits(lane, 3);
}

Value Thread::blockRow(int64_t block) { return emit.mul(emit.add(warp, emit.i32(block * warps)), emit.i32(16)); }
Value Thread::row(int64_t block, int half) {
  // The constant last, and outside: each use is then one addition, in 32 bits where that is enough.
  return emit.add(emit.toI64(emit.add(emit.mul(warp, emit.i32(16)), group)), emit.i64(16 * block * warps + 8 * half));
}
Value Thread::column(int64_t tile, int e) {
  return emit.add(emit.toI64(emit.mul(quad, emit.i32(2))), emit.i64(8 * tile + (e & 1)));
}
Value Thread::isFirstOfRow() {
  return arith::CmpIOp::create(emit.b, emit.loc, arith::CmpIPredicate::eq, quad, emit.i32(0));
}
Value Thread::isFirstOfColumn() {
  return arith::CmpIOp::create(emit.b, emit.loc, arith::CmpIPredicate::eq, group, emit.i32(0));
}

Value Thread::anchored(Value value) {
  return inlinePtx(emit.b, emit.loc, value.getType(), "mov.b32 $0, $1;", "=r,r", value);
}

Value Thread::exchange(Value value, int mask) {
  return nvvm::ShflOp::create(emit.b, emit.loc, value.getType(), emit.i32(-1), value, emit.i32(mask), emit.i32(31),
                              nvvm::ShflKind::bfly, mlir::UnitAttr());
}

Value Thread::firstLanes(Value value) {
  return nvvm::ShflOp::create(emit.b, emit.loc, value.getType(), emit.i32(-1), value, emit.i32(0), emit.i32(31),
                              nvvm::ShflKind::idx, mlir::UnitAttr());
}

Value Thread::reduceRow(Value value, bool max) {
  for (int distance : {1, 2}) {
    Value other = exchange(value, distance);
    value = max ? Value(arith::MaxNumFOp::create(emit.b, emit.loc, value, other))
                : Value(arith::AddFOp::create(emit.b, emit.loc, value, other));
  }
  return value;
}

Value Thread::addColumn(Value value) {
  for (int distance : {4, 8, 16}) value = arith::AddFOp::create(emit.b, emit.loc, value, exchange(value, distance));
  return value;
}

target::Lanes Thread::lanes() {
  target::Lanes lanes;
  lanes.own = lane;
  lanes.exchange = [this](Value value, int mask) { return exchange(value, mask); };
  lanes.ballot = [this](Value flag) {
    return nvvm::VoteSyncOp::create(emit.b, emit.loc, emit.b.getI32Type(), emit.i32(-1), flag,
                                    nvvm::VoteSyncKind::ballot);
  };
  lanes.sync = [this] { nvvm::SyncWarpOp::create(emit.b, emit.loc, emit.i32(-1)); };
  return lanes;
}

}  // namespace weft::nvptx
