// Loops: what they carry of tiles stays in its place.
#include "compiler/target/cpu/kernel_code.h"
#include "compiler/target/kept_tiles.h"

namespace weft::cpu {
namespace {

/// What a turn yields becomes what the next one finds.
void carry(KernelCode &code, Value to, Value from) {
  Emitter &emit = code.emit;
  Value target = code.tile(to).base, source = code.tile(from).base;
  if (target == source) return;
  const int64_t total = mlir::cast<mlir::RankedTensorType>(to.getType()).getNumElements();
  emit.loop(emit.i64(0), emit.i64(total), emit.machine.lanes,
            [&](Value index) { emit.store(emit.load(emit.floats(), emit.at(source, index)), emit.at(target, index)); });
}

}  // namespace

void lower(KernelCode &code, tile::ForOp op) {
  Emitter &emit = code.emit;
  const tile::Range over = op.getOver();
  mlir::Block &body = op.getBody().front();
  const bool kept = op.overKept();
  // Carried tiles stay in one place; a turn writes its results there.
  auto carriedArguments = body.getArguments().drop_front(kept ? 2 : 1);
  for (auto [argument, init, result] : llvm::zip(carriedArguments, op.getInits(), op.getResults())) {
    const Tile own = code.tile(init);  // a new entry may move the others
    code.tiles[argument] = own;
    code.tiles[result] = own;
  }
  auto turn = [&](Value index, Value full) {
    code.scalars[body.getArgument(0)] = index;
    if (kept) code.scalars[body.getArgument(1)] = full;
    code.lower(body);
    auto yield = mlir::cast<tile::YieldOp>(body.getTerminator());
    for (auto [argument, value] : llvm::zip(carriedArguments, yield.getValues())) carry(code, argument, value);
  };
  if (over == tile::Range::Turns) {
    emit.loop(emit.i64(0), emit.i64(op.turns()), 1, [&](Value at) { turn(at, Value()); });
    return;
  }
  Value batch = code.scalar(op.getBatch()), head = code.scalar(op.getHead()), start = code.scalar(op.getStart());
  if (op.overKeys()) code.slots.enterRow(batch, head, emit.mul(start, emit.i64(code.tileQ)));
  if (over == tile::Range::Positions) {
    Value queries = code.slots.dim("T"), first = emit.mul(start, queries);
    emit.loop(first, emit.add(first, queries), 1, [&](Value position) { turn(position, Value()); });
  } else if (over == tile::Range::Heads) {
    Value perGroup = code.slots.headsOfGroup();
    Value first = emit.mul(start, perGroup);
    emit.loop(first, emit.add(first, perGroup), 1, [&](Value h) { turn(h, Value()); });
  } else if (over == tile::Range::Queries) {
    emit.loop(emit.i64(0), target::tileCount(emit, code.slots.rows(), code.tileQ), 1,
              [&](Value qt) { turn(qt, Value()); });
  } else {
    target::KeptTiles kept =
        keptTiles(emit, code.slots, {code.tileQ, code.tileK}, target::keptLoop(op), batch, head, start);
    emit.loop(kept.from, kept.to, 1, [&](Value at) {
      auto [index, full] = kept.tile(at);
      turn(index, full);
    });
  }
}

}  // namespace weft::cpu
