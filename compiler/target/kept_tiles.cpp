#include "compiler/target/kept_tiles.h"

#include "compiler/internal_error.h"

namespace weft::target {

namespace arith = mlir::arith;

Value tileCount(Emitter &emit, Value extent, int64_t tile) {
  return emit.div(emit.add(extent, emit.i64(tile - 1)), emit.i64(tile));
}
Value tileCount(Emitter &emit, KernelArguments &slots, const std::string &dim, int64_t tile) {
  return tileCount(emit, slots.dim(dim), tile);
}

/// The name of one of the tensors that say which tiles a loop keeps.
static std::string planTensor(const KeptLoop &loop, size_t at) {
  internalCheck(loop.plan && at < loop.plan.size(), "kept tiles", "a loop without a plan");
  return mlir::cast<mlir::FlatSymbolRefAttr>(loop.plan[at]).getValue().str();
}

/// Compressed lists: counts[row] entries, each twice the tile's number plus 1 where it is full. A row has room for all
/// tiles of the other side.
static KeptTiles listed(Emitter &emit, KernelArguments &slots, const Tiling &tiling, const KeptLoop &loop, Value batch,
                        Value head, Value start) {
  const std::string &keyDim = loop.keyDim;
  const bool keys = loop.overKeys();
  Value rowTiles = keys ? tileCount(emit, slots.rows(), tiling.tileQ) : tileCount(emit, slots, keyDim, tiling.tileK);
  // There are no more entries than 32 bits count (CallPlan::Buffer::counted).
  Value row = emit.narrow(emit.add(emit.mul(emit.add(emit.mul(batch, slots.heads()), head), rowTiles), start));
  mlir::Type i32 = emit.b.getI32Type();
  Value counts = slots.pointer(planTensor(loop, 0));
  Value entries = slots.pointer(planTensor(loop, 1));
  KeptTiles kept;
  Value room = keys ? tileCount(emit, slots, slots.keyExtent(keyDim), tiling.tileK)
                    : tileCount(emit, slots.rows(), tiling.tileQ);
  Value own = emit.at(entries, emit.narrow(emit.mul(row, room)), i32);
  kept.from = emit.i64(0);
  kept.to = emit.toI64(emit.load(i32, emit.at(counts, row, i32)));
  kept.tile = [&emit, own, i32](Value at) {
    Value entry = emit.load(i32, emit.at(own, at, i32));
    Value index = emit.toI64(arith::ShRUIOp::create(emit.b, emit.loc, entry, emit.i32(1)));
    Value full = arith::TruncIOp::create(emit.b, emit.loc, emit.b.getI1Type(), entry);
    return std::pair{index, full};
  };
  return kept;
}

/// Tiles that meet the band lo <= i - j <= hi, in closed form.
static KeptTiles banded(Emitter &emit, KernelArguments &slots, const Tiling &tiling, const KeptLoop &loop, Value batch,
                        Value head, Value start) {
  const std::string &keyDim = loop.keyDim;
  const bool keys = loop.overKeys();
  Value base = emit.mul(emit.add(emit.mul(batch, slots.dim("H")), head), emit.i64(4));
  mlir::Type i32 = emit.b.getI32Type();
  auto bound = [&](int at) {
    Value address = emit.at(slots.pointer(planTensor(loop, 0)), emit.add(base, emit.i64(at)), i32);
    return emit.toI64(emit.load(i32, address));
  };
  Value lo = bound(0), hi = bound(1), fullLo = bound(2), fullHi = bound(3);
  const int64_t own = keys ? tiling.tileQ : tiling.tileK, other = keys ? tiling.tileK : tiling.tileQ;
  Value ownDim = slots.dim(keys ? "T" : keyDim), otherDim = slots.dim(keys ? keyDim : "T");
  Value one = emit.i64(1);
  Value first = emit.mul(start, emit.i64(own));
  Value ownLast = emit.add(first, emit.i64(own - 1));
  Value last = emit.sub(emit.min(emit.add(first, emit.i64(own)), ownDim), one);
  // keys: i - hi <= j <= i - lo; queries: j + lo <= i <= j + hi.
  Value from = keys ? emit.sub(first, hi) : emit.add(first, lo);
  Value to = keys ? emit.sub(last, lo) : emit.add(last, hi);
  from = emit.max(from, emit.i64(0));
  to = emit.min(to, emit.sub(otherDim, one));
  Value none = emit.less(hi, lo);
  Value lastTile = arith::FloorDivSIOp::create(emit.b, emit.loc, to, emit.i64(other));
  KeptTiles kept;
  kept.from = emit.div(from, emit.i64(other));
  kept.to = arith::SelectOp::create(emit.b, emit.loc, none, kept.from, emit.add(lastTile, one));
  // Full tiles are neighbours, as those kept are: keys: i1 - fullHi <= j0 and j1 <= i0 - fullLo, for the first and the
  // last query i0 and i1; queries: j1 + fullLo <= i0 and i1 <= j0 + fullHi.
  Value fullFirst = keys ? emit.sub(ownLast, fullHi) : emit.add(ownLast, fullLo);
  Value fullLast = keys ? emit.sub(first, fullLo) : emit.add(first, fullHi);
  Value fullEnd = emit.max(emit.add(emit.min(fullLast, emit.sub(otherDim, one)), one), emit.i64(0));
  Value fullFrom = emit.div(emit.add(emit.max(fullFirst, emit.i64(0)), emit.i64(other - 1)), emit.i64(other));
  Value fullTo = emit.div(fullEnd, emit.i64(other));
  fullTo = arith::SelectOp::create(emit.b, emit.loc, emit.less(ownLast, ownDim), fullTo, emit.i64(0));
  kept.tile = [&emit, fullFrom = emit.toI32(fullFrom), fullTo = emit.toI32(fullTo)](Value index) {
    Value own = emit.toI32(index);  // tiles are at least 8 wide
    Value from = arith::CmpIOp::create(emit.b, emit.loc, arith::CmpIPredicate::sge, own, fullFrom);
    Value full = arith::AndIOp::create(emit.b, emit.loc, from, emit.less(own, fullTo));
    return std::pair{index, full};
  };
  return kept;
}

KeptLoop keptLoop(tile::ForOp loop) {
  return {loop.getOver(), loop.getPlan().value_or(mlir::ArrayAttr()), loop.getKeyDim().str()};
}

KeptTiles keptTiles(Emitter &emit, KernelArguments &slots, const Tiling &tiling, const KeptLoop &loop, Value batch,
                    Value head, Value start) {
  const bool lists = loop.plan && loop.plan.size() == 2;
  KeptTiles kept = (lists ? listed : banded)(emit, slots, tiling, loop, batch, head, start);
  if (loop.over != tile::Range::KeysDescending) return kept;
  KeptTiles last = kept;
  last.tile = [&emit, kept](Value at) {
    return kept.tile(emit.sub(emit.sub(emit.add(kept.from, kept.to), emit.i64(1)), at));
  };
  return last;
}

}  // namespace weft::target
