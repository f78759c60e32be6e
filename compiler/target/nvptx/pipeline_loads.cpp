// Says when operands are copied to shared memory: streams ahead of the turn that needs them.
//
// Before: cta.load, cta.load_rows, cta.share and loops over kept tiles (tile.for). After: a buffer for each
// (cta.alloc), copies, groups and waits; loops over kept tiles are scf.for over their turns. What such a loop loads
// anew in every turn streams: its buffer has `stages` tiles, and the copy of a turn is started `stages - 1` turns
// ahead. Whatever else is loaded is copied where it stands. Of loops whose turns come with the tiles of rings
// (cta.carried_turns) the producer gives their number. Barriers are still missing. Test: pipeline_loads.mlir
#include "compiler/dialect/cta.h"
#include "compiler/passes.h"
#include "llvm/ADT/STLExtras.h"

namespace weft {

#define GEN_PASS_DEF_PIPELINELOADS
#include "compiler/Passes.h.inc"

namespace {

namespace arith = mlir::arith;
using mlir::Value;

Value indexOf(mlir::Operation *load) {
  if (auto rows = mlir::dyn_cast<cta::LoadRowsOp>(load)) return rows.getIndex();
  return mlir::cast<cta::LoadOp>(load).getIndex();
}
cta::SharedType typeOf(mlir::Operation *load) { return mlir::cast<cta::SharedType>(load->getResult(0).getType()); }

Value copy(mlir::OpBuilder &builder, mlir::Operation *load, Value index, Value buffer) {
  const auto token = cta::TokenType::get(builder.getContext());
  if (auto rows = mlir::dyn_cast<cta::LoadRowsOp>(load))
    return cta::CopyRowsAsyncOp::create(builder, rows.getLoc(), token, rows.getTensorAttr(), rows.getBatch(),
                                        rows.getHead(), index, rows.getFillAttr(), buffer);
  auto tile = mlir::cast<cta::LoadOp>(load);
  return cta::CopyAsyncOp::create(builder, tile.getLoc(), token, tile.getTensor(), tile.getBatch(), tile.getHead(),
                                  index, buffer);
}

/// A load that stays where it is.
void copyInPlace(mlir::Operation *load) {
  mlir::OpBuilder builder(load);
  const mlir::Location loc = load->getLoc();
  Value buffer = cta::AllocOp::create(builder, loc, typeOf(load), mlir::IntegerAttr());
  cta::CommitGroupOp::create(builder, loc, copy(builder, load, indexOf(load), buffer));
  cta::WaitGroupOp::create(builder, loc, 0);
  load->getResult(0).replaceAllUsesWith(buffer);
  load->erase();
}

void storeInPlace(cta::ShareOp share) {
  mlir::OpBuilder builder(share);
  Value buffer = cta::AllocOp::create(builder, share.getLoc(), share.getResult().getType(), mlir::IntegerAttr());
  cta::StoreSharedOp::create(builder, share.getLoc(), share.getTile(), buffer);
  share.getResult().replaceAllUsesWith(buffer);
  share.erase();
}

/// A loop over kept tiles, and what streams by in it.
class Stream {
 public:
  Stream(tile::ForOp loop, int64_t stages) : loop(loop), builder(loop), loc(loop.getLoc()), stages(stages) {
    const Value index = loop.getBody().front().getArgument(0);
    for (mlir::Operation &op : loop.getBody().front())
      if (cta::isLoad(&op) && indexOf(&op) == index) loads.push_back(&op);
  }

  void run() {
    tiles =
        cta::KeptTilesOp::create(builder, loc, cta::KeptTilesType::get(builder.getContext()), loop.getOver(),
                                 loop.getBatch(), loop.getHead(), loop.getStart(), *loop.getPlan(), loop.getKeyDim());
    carried = loop->hasAttr(cta::carriedTurns);
    auto roles = loop->getParentOfType<cta::RolesOp>();
    if (carried && roles.getConsumers().isAncestor(loop->getParentRegion())) {
      from = constant(0);
      to = cta::TakeOp::create(builder, loc, builder.getI64Type());
    } else {
      auto turns = cta::TurnsOp::create(builder, loc, builder.getI64Type(), builder.getI64Type(), tiles);
      from = turns.getFrom();
      to = turns.getTo();
      if (carried) cta::GiveOp::create(builder, loc, arith::SubIOp::create(builder, loc, to, from));
      carried = false;
    }
    for (mlir::Operation *load : loads) {
      buffers.push_back(cta::AllocOp::create(builder, loc, typeOf(load).several(stages), mlir::IntegerAttr()));
    }
    if (!loads.empty())
      for (int64_t ahead = 0; ahead + 1 < stages; ++ahead) copies(add(from, ahead));
    auto turned = mlir::scf::ForOp::create(builder, loc, from, to, constant(1), loop.getInitArgs());
    takeBody(turned);
    loop.replaceAllUsesWith(turned.getResults());
    loop.erase();
  }

 private:
  tile::ForOp loop;
  mlir::OpBuilder builder;
  const mlir::Location loc;
  const int64_t stages;
  llvm::SmallVector<mlir::Operation *> loads;
  llvm::SmallVector<Value> buffers;
  Value tiles, from, to;
  bool carried = false;  ///< which tile a turn is of is known in it already

  Value constant(int64_t value) { return arith::ConstantIntOp::create(builder, loc, value, 64); }
  Value add(Value turn, int64_t ahead) {
    return ahead == 0 ? turn : Value(arith::AddIOp::create(builder, loc, turn, constant(ahead)));
  }
  cta::TurnOp turnAt(Value turn) {
    return cta::TurnOp::create(builder, loc, builder.getI32Type(), builder.getI1Type(), tiles, turn);
  }
  /// The tile of a buffer that belongs to a turn.
  Value stageOf(Value turn) {
    Value number = arith::SubIOp::create(builder, loc, turn, from);
    Value stage = arith::RemUIOp::create(builder, loc, number, constant(stages));
    return arith::TruncIOp::create(builder, loc, builder.getI32Type(), stage);
  }
  Value tileOf(Value buffer, Value stage) {
    const auto type = mlir::cast<cta::SharedType>(buffer.getType());
    return cta::StageOp::create(builder, loc, type.stage(), buffer, stage);
  }

  /// The copies of a turn, one group; an empty one past the last turn.
  void copies(Value turn) {
    // 32 bits count turns.
    auto narrow = [&](Value number) -> Value {
      return arith::TruncIOp::create(builder, loc, builder.getI32Type(), number);
    };
    Value exists = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::slt, narrow(turn), narrow(to));
    auto branch = mlir::scf::IfOp::create(builder, loc, exists, false);
    {
      mlir::OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointToStart(branch.thenBlock());
      Value index = turnAt(turn).getIndex(), stage = stageOf(turn);
      for (auto [load, buffer] : llvm::zip(loads, buffers)) copy(builder, load, index, tileOf(buffer, stage));
    }
    cta::CommitGroupOp::create(builder, loc, mlir::ValueRange());
  }

  void takeBody(mlir::scf::ForOp turned) {
    mlir::Block &body = loop.getBody().front();
    builder.setInsertionPointToStart(turned.getBody());
    Value at = turned.getInductionVar();
    if (!loads.empty()) {
      if (stages == 1) copies(at);
      cta::WaitGroupOp::create(builder, loc, static_cast<uint32_t>(std::max<int64_t>(stages - 2, 0)));
      if (stages > 1) copies(add(at, stages - 1));
    }
    llvm::SmallVector<Value> arguments;
    if (carried) arguments.append(2, Value());
    else llvm::append_range(arguments, turnAt(at)->getResults());
    Value stage = loads.empty() ? Value() : stageOf(at);
    for (auto [load, buffer] : llvm::zip(loads, buffers)) {
      load->getResult(0).replaceAllUsesWith(tileOf(buffer, stage));
      load->erase();
    }
    auto yield = mlir::cast<tile::YieldOp>(body.getTerminator());
    // scf.for has a terminator of its own where it carries nothing.
    if (turned.getBody()->mightHaveTerminator()) turned.getBody()->getTerminator()->erase();
    llvm::append_range(arguments, turned.getRegionIterArgs());
    builder.setInsertionPoint(yield);
    mlir::scf::YieldOp::create(builder, yield.getLoc(), yield.getValues());
    yield.erase();
    for (auto [own, value] : llvm::zip(body.getArguments(), arguments))
      if (value) own.replaceAllUsesWith(value);
    turned.getBody()->getOperations().splice(turned.getBody()->end(), body.getOperations());
  }
};

struct PipelineLoads : impl::PipelineLoadsBase<PipelineLoads> {
  using PipelineLoadsBase::PipelineLoadsBase;
  void runOnOperation() override {
    if (stages < 1 || stages > 4) {
      getOperation().emitError("pipeline-loads: expected 1 to 4 stages, got ") << stages.getValue();
      return signalPassFailure();
    }
    llvm::SmallVector<tile::ForOp> loops;
    getOperation().walk([&](tile::ForOp loop) {
      if (loop.overKept()) loops.push_back(loop);
    });
    for (tile::ForOp loop : loops) Stream(loop, stages).run();
    getOperation().walk([](mlir::Operation *op) {
      if (cta::isLoad(op)) copyInPlace(op);
    });
    getOperation().walk([](cta::ShareOp share) { storeInPlace(share); });
  }
};

}  // namespace
}  // namespace weft
