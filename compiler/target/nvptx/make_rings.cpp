// Gives the copies of a kernel of warpgroups to warps of their own.
//
// Before: cta.load and cta.load_rows wherever the program needs them. After: cta.roles. The producer runs the same
// loops with nothing in them but cta.fill; the consumers acquire each tile before its first use and release it after
// its last. What a loop over kept tiles loads anew in every turn has `stages` tiles, the rest one. Of such loops only
// the producer looks up which tiles are kept: the consumers are told with the first tile of a turn (cta.carried).
// Kernels without products of warpgroups stay as they are, for pipeline-loads. Test: make_rings.mlir
#include "compiler/dialect/cta.h"
#include "compiler/passes.h"
#include "llvm/ADT/MapVector.h"
#include "mlir/IR/IRMapping.h"

namespace weft {

#define GEN_PASS_DEF_MAKERINGS
#include "compiler/Passes.h.inc"

namespace {

using mlir::Value;

bool holdsLoads(mlir::Operation *op) {
  return op
      ->walk([](mlir::Operation *inner) {
        return cta::isLoad(inner) ? mlir::WalkResult::interrupt() : mlir::WalkResult::advance();
      })
      .wasInterrupted();
}

/// All its products are of warpgroups; loads stand in its loops, none in a branch.
bool takesRings(tile::KernelOp kernel) {
  bool warpgroups = false, others = false;
  kernel.walk([&](mlir::Operation *op) {
    if (auto product = mlir::dyn_cast<cta::MmaOp>(op)) {
      warpgroups |= cta::isWgmma(product.getKind());
      others |= !cta::isWgmma(product.getKind());
    }
    if (cta::isLoad(op)) others |= !mlir::isa<tile::KernelOp, tile::ForOp>(op->getParentOp());
  });
  return warpgroups && !others;
}

/// Loads of one block that are filled, acquired and released once in each of its turns.
struct Group {
  int64_t stages;
  llvm::SmallVector<mlir::Operation *> loads;
  mlir::Operation *carries = nullptr;  ///< the load whose ring says which tile a turn is of
};

/// Of the rows that the turn itself is of.
bool isOfTurn(tile::ForOp loop, mlir::Operation *load) {
  auto tile = mlir::dyn_cast<cta::LoadOp>(load);
  return tile && tile.getIndex() == loop.getBody().front().getArgument(0);
}

class Rings {
 public:
  Rings(tile::KernelOp kernel, int64_t stages) : kernel(kernel), builder(kernel.getContext()), loc(kernel.getLoc()) {
    kernel.walk([&](mlir::Operation *op) {
      if (!cta::isLoad(op)) return;
      auto loop = mlir::dyn_cast<tile::ForOp>(op->getParentOp());
      Group &group = groups[op->getBlock()];
      const bool kept = loop && loop.overKept();
      group.stages = kept ? stages : 1;
      group.loads.push_back(op);
      if (kept && !group.carries && isOfTurn(loop, op)) group.carries = op;
    });
  }

  void run() {
    mlir::Block &body = kernel.getBody().front();
    auto first = llvm::find_if(body, [](mlir::Operation &op) { return !mlir::isa<tile::TensorOp>(op); });
    builder.setInsertionPoint(&*first);
    for (auto &[block, group] : groups)
      for (mlir::Operation *load : group.loads) makeRing(load, group.stages, load == group.carries);
    auto roles = cta::RolesOp::create(builder, loc, mlir::IntegerAttr());
    mlir::Block &producer = roles.getProducer().emplaceBlock(), &consumers = roles.getConsumers().emplaceBlock();
    consumers.getOperations().splice(consumers.end(), body.getOperations(), std::next(roles->getIterator()),
                                     body.end());
    makeCursors(producer);
    mlir::IRMapping copied;
    produce(consumers, copied);
    makeCursors(consumers);
    for (auto &[block, group] : groups) consume(group, block == &body ? &consumers : block);
  }

 private:
  tile::KernelOp kernel;
  mlir::OpBuilder builder;
  const mlir::Location loc;
  llvm::MapVector<mlir::Block *, Group> groups;  ///< by the block that they stand in
  llvm::DenseMap<mlir::Operation *, Value> rings;
  llvm::DenseMap<Group *, Value> cursors;  ///< of the role that is being written

  void makeRing(mlir::Operation *load, int64_t stages, bool carries) {
    const auto type = mlir::cast<cta::SharedType>(load->getResult(0).getType());
    Value buffer = cta::AllocOp::create(builder, loc, type.several(stages), mlir::IntegerAttr());
    rings[load] = cta::RingOp::create(builder, loc, cta::RingType::get(builder.getContext()), buffer,
                                      load->getAttrOfType<mlir::FlatSymbolRefAttr>("tensor"),
                                      carries ? builder.getUnitAttr() : mlir::UnitAttr(), mlir::IntegerAttr());
  }

  void makeCursors(mlir::Block &role) {
    builder.setInsertionPointToStart(&role);
    for (auto &[block, group] : groups)
      cursors[&group] = cta::CursorOp::create(builder, loc, cta::CursorType::get(builder.getContext()), group.stages);
  }

  /// The loops around loads, and in the place of each load its ring's being filled. At the builder's.
  void produce(mlir::Block &block, mlir::IRMapping &copied) {
    for (mlir::Operation &op : block) {
      if (cta::isLoad(&op)) fill(&op, copied);
      else if (auto loop = mlir::dyn_cast<tile::ForOp>(op); loop && holdsLoads(loop)) produceLoop(loop, copied);
    }
    if (auto own = groups.find(originalBlock(block)); own != groups.end())
      cta::AdvanceOp::create(builder, loc, cursors.at(&own->second));
  }

  /// The kernel's own block has moved into the consumers'.
  mlir::Block *originalBlock(mlir::Block &block) {
    return mlir::isa<cta::RolesOp>(block.getParentOp()) ? &kernel.getBody().front() : &block;
  }

  void produceLoop(tile::ForOp loop, mlir::IRMapping &copied) {
    auto value = [&](Value own) { return producers(own, copied); };
    auto copy = tile::ForOp::create(builder, loc, mlir::TypeRange(), loop.getOver(), value(loop.getBatch()),
                                    value(loop.getHead()), value(loop.getStart()), mlir::ValueRange(),
                                    loop.getKeyDimAttr(), loop.getPlanAttr());
    mlir::Block &body = copy.getBody().emplaceBlock(), &own = loop.getBody().front();
    if (auto group = groups.find(&own); group != groups.end() && group->second.carries)
      for (tile::ForOp role : {copy, loop}) role->setAttr(cta::carriedTurns, builder.getUnitAttr());
    // The turn's index and, of kept tiles, whether it is full; no carried tiles.
    for (mlir::BlockArgument argument : own.getArguments())
      if (!mlir::isa<mlir::RankedTensorType>(argument.getType()))
        copied.map(argument, body.addArgument(argument.getType(), loc));
    mlir::OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(&body);
    produce(own, copied);
    tile::YieldOp::create(builder, loc, mlir::ValueRange());
  }

  /// A number that a load or a loop asks for, as the producer computes it.
  Value producers(Value own, mlir::IRMapping &copied) {
    if (Value known = copied.lookupOrNull(own)) return known;
    mlir::Operation *op = own.getDefiningOp();
    if (!op) return own;  // a coordinate of the program
    internalCheck(op->getNumRegions() == 0 && mlir::isMemoryEffectFree(op), "make-rings",
                  "a load from where " + op->getName().getStringRef().str() + " says");
    mlir::IRMapping operands;
    for (Value operand : op->getOperands()) operands.map(operand, producers(operand, copied));
    return builder.clone(*op, operands)->getResult(mlir::cast<mlir::OpResult>(own).getResultNumber());
  }

  void fill(mlir::Operation *load, mlir::IRMapping &copied) {
    auto value = [&](Value own) { return producers(own, copied); };
    Group &group = groups.find(originalBlock(*load->getBlock()))->second;
    auto write = [&](auto op, mlir::FloatAttr pad) {
      Value full;
      if (load == group.carries) full = copied.lookup(load->getBlock()->getArgument(1));
      cta::FillOp::create(builder, loc, rings.at(load), cursors.at(&group), value(op.getBatch()), value(op.getHead()),
                          value(op.getIndex()), full, pad, mlir::UnitAttr());
    };
    if (auto rows = mlir::dyn_cast<cta::LoadRowsOp>(load)) write(rows, rows.getFillAttr());
    else write(mlir::cast<cta::LoadOp>(load), mlir::FloatAttr());
  }

  void consume(Group &group, mlir::Block *block) {
    const Value cursor = cursors.at(&group);
    for (mlir::Operation *load : group.loads) {
      auto [first, last] = cta::usersIn(*block, load->getResult(0));
      internalCheck(first, "make-rings", "a load that nothing uses");
      if (load == group.carries) builder.setInsertionPointToStart(block);
      else builder.setInsertionPoint(first);
      auto tile = cta::AcquireOp::create(builder, loc, load->getResult(0).getType(), rings.at(load), cursor);
      load->getResult(0).replaceAllUsesWith(tile);
      if (load == group.carries) {
        auto carried =
            cta::CarriedOp::create(builder, loc, builder.getI32Type(), builder.getI1Type(), rings.at(load), cursor);
        block->getArgument(0).replaceAllUsesWith(carried.getIndex());
        block->getArgument(1).replaceAllUsesWith(carried.getFull());
      }
      builder.setInsertionPointAfter(last);
      cta::ReleaseOp::create(builder, loc, rings.at(load), cursor, Value());
      load->erase();
    }
    if (mlir::isa<cta::RolesOp>(block->getParentOp())) builder.setInsertionPointToEnd(block);
    else builder.setInsertionPoint(block->getTerminator());
    cta::AdvanceOp::create(builder, loc, cursor);
  }
};

struct MakeRings : impl::MakeRingsBase<MakeRings> {
  using MakeRingsBase::MakeRingsBase;
  void runOnOperation() override {
    const bool made = attempt(getOperation(), [&] {
      getOperation().walk([&](tile::KernelOp kernel) {
        if (takesRings(kernel)) Rings(kernel, stages).run();
      });
    });
    if (!made) signalPassFailure();
  }
};

}  // namespace
}  // namespace weft
