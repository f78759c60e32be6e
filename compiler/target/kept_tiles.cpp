#include "compiler/target/kept_tiles.h"

#include "compiler/internal_error.h"

namespace weft::target {

namespace arith = mlir::arith;

Value tileCount(Emitter &emit, KernelArguments &slots, const std::string &dim, int64_t tile) {
  return emit.div(emit.add(slots.dim(dim), emit.i64(tile - 1)), emit.i64(tile));
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
  Value rowTiles = keys ? tileCount(emit, slots, "T", tiling.tileQ) : tileCount(emit, slots, keyDim, tiling.tileK);
  Value row = emit.add(emit.mul(emit.add(emit.mul(batch, slots.dim("H")), head), rowTiles), start);
  mlir::Type i32 = emit.b.getI32Type();
  Value counts = slots.pointer(planTensor(loop, 0));
  Value entries = slots.pointer(planTensor(loop, 1));
  KeptTiles kept;
  kept.from = emit.mul(row, keys ? tileCount(emit, slots, slots.keyExtent(keyDim), tiling.tileK)
                                 : tileCount(emit, slots, "T", tiling.tileQ));
  kept.to = emit.add(kept.from, emit.toI64(emit.load(i32, emit.at(counts, row, i32))));
  kept.tile = [&emit, entries, i32](Value at) {
    Value entry = emit.load(i32, emit.at(entries, at, i32));
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
  Value ownWhole = emit.less(ownLast, ownDim);
  kept.tile = [&emit, keys, other, first, ownLast, otherDim, fullLo, fullHi, ownWhole](Value index) {
    Value otherFirst = emit.mul(index, emit.i64(other));
    Value otherLast = emit.add(otherFirst, emit.i64(other - 1));
    Value i0 = keys ? first : otherFirst, i1 = keys ? ownLast : otherLast;
    Value j0 = keys ? otherFirst : first, j1 = keys ? otherLast : ownLast;
    auto notLess = [&](Value x, Value y) {
      return Value(arith::CmpIOp::create(emit.b, emit.loc, arith::CmpIPredicate::sge, x, y));
    };
    auto both = [&](Value x, Value y) { return Value(arith::AndIOp::create(emit.b, emit.loc, x, y)); };
    Value full = both(notLess(emit.sub(i0, j1), fullLo), notLess(fullHi, emit.sub(i1, j0)));
    return std::pair{index, both(full, both(ownWhole, emit.less(otherLast, otherDim)))};
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
