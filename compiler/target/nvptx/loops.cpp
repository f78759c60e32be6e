// Loops and branches: what they carry of tiles travels in registers.
#include "compiler/target/nvptx/kernel_code.h"

namespace weft::nvptx {
namespace {

/// The loop itself, of bounds that fit 32 bits: prepare(index) runs at the start of a turn.
template <class Prepare>
void carry(KernelCode &code, mlir::LoopLikeOpInterface loop, Value from, Value to, Prepare prepare) {
  mlir::Block &body = loop.getLoopRegions()[0]->front();
  Registers inits;
  for (Value init : loop.getInits()) llvm::append_range(inits, code.registersOf(init));
  Emitter &emit = code.emit;
  auto sums = emit.loop(emit.toI32(from), emit.toI32(to), 1, inits, [&](Value at, mlir::ValueRange carried) {
    prepare(Value(mlir::arith::ExtUIOp::create(emit.b, emit.loc, emit.b.getI64Type(), at)));
    code.spread(loop.getRegionIterArgs(), Registers(carried.begin(), carried.end()));
    code.lower(body);
    Registers next;
    for (Value value : body.getTerminator()->getOperands()) llvm::append_range(next, code.registersOf(value));
    return next;
  });
  code.spread(loop->getResults(), Registers(sums.begin(), sums.end()));
}

}  // namespace

void lower(KernelCode &code, cta::KeptTilesOp op) {
  Value batch = code.scalar(op.getBatch()), head = code.scalar(op.getHead()), start = code.scalar(op.getStart());
  if (op.getOver() != tile::Range::KeptQueries)
    code.slots.enterRow(batch, head, code.emit.mul(start, code.emit.i64(code.tileQ)));
  const target::KeptLoop loop{op.getOver(), op.getPlan(), op.getKeyDim().str()};
  code.keptTiles[op.getResult()] = keptTiles(code.emit, code.slots, {code.tileQ, code.tileK}, loop, batch, head, start);
}

void lower(KernelCode &code, cta::TurnsOp op) {
  const target::KeptTiles &tiles = code.keptTiles.at(op.getTiles());
  code.scalars[op.getFrom()] = tiles.from;
  code.scalars[op.getTo()] = tiles.to;
}

void lower(KernelCode &code, cta::TurnOp op) {
  auto [index, full] = code.keptTiles.at(op.getTiles()).tile(code.scalar(op.getAt()));
  code.scalars[op.getIndex()] = index;
  code.scalars[op.getFull()] = full;
}

void lower(KernelCode &code, tile::ForOp op) {
  Emitter &emit = code.emit;
  internalCheck(!op.overKept(), "nvptx lowering", "a loop over kept tiles that pipeline-loads has not seen");
  Value from = emit.i64(0), to;
  if (op.getOver() == tile::Range::Turns) {
    to = emit.i64(op.turns());
  } else if (op.getOver() == tile::Range::Positions) {
    from = emit.mul(code.scalar(op.getStart()), code.slots.dim("T"));
    to = emit.add(from, code.slots.dim("T"));
  } else if (op.getOver() == tile::Range::Heads) {
    Value perGroup = code.slots.headsOfGroup();
    from = emit.mul(code.scalar(op.getStart()), perGroup);
    to = emit.add(from, perGroup);
  } else {
    to = target::tileCount(emit, code.slots.rows(), code.tileQ);
  }
  carry(code, op, from, to, [&](Value at) { code.scalars[op.getBody().front().getArgument(0)] = at; });
}

void lower(KernelCode &code, mlir::scf::ForOp op) {
  carry(code, op, code.scalar(op.getLowerBound()), code.scalar(op.getUpperBound()),
        [&](Value at) { code.scalars[op.getInductionVar()] = at; });
}

void lower(KernelCode &code, mlir::scf::IfOp op) {
  internalCheck(op.getNumResults() == 0 && !op.elseBlock(), "nvptx lowering", "a branch with results");
  code.emit.when(code.scalar(op.getCondition()), [&] { code.lower(*op.thenBlock()); });
}

}  // namespace weft::nvptx
