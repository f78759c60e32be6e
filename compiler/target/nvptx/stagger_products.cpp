// Lets the last product of a turn go on beside the next turn's pairs (software pipelining).
//
// Before: a turn of the consumers' loop over kept tiles is s = q k', then pairs p of s, then o = a o + p v. After: p is
// carried to the next turn, o = p v starts there behind s = q k', and goes on while the pairs of s are computed; only
// then is o scaled. The last product stands behind the loop. That of the first turn is of p = 0 and of a tile of zeros,
// which the producer fills ahead of the others: nothing has to be decided in the loop, nor where it has no turns. What
// the turn's other products read is released only when the rows of p are summed up: assemblers would wait for o before
// they compute p, but keep the order of what other threads see. Test: stagger_products.mlir
#include <optional>

#include "compiler/dialect/cta.h"
#include "compiler/passes.h"

namespace weft {

#define GEN_PASS_DEF_STAGGERPRODUCTS
#include "compiler/Passes.h.inc"

namespace {

using mlir::Value;

/// The last product of a turn, and what belongs to it.
struct Last {
  cta::MmaOp product;
  unsigned carried;        ///< which of the loop's values it is added to
  cta::AcquireOp tile;     ///< its right side
  cta::ReleaseOp release;  ///< of that
  mlir::Operation *first;  ///< the first operation that needs another product of the turn
};

template <class Op>
Op userOf(Value ring, mlir::Block *block) {
  for (mlir::Operation *user : ring.getUsers())
    if (auto own = mlir::dyn_cast<Op>(user); own && (!block || own->getBlock() == block)) return own;
  return Op();
}

/// The one product that is added to what the loop carries, of pairs of its turn and a tile that nothing else reads; the
/// other products do not need it.
std::optional<Last> lastProduct(tile::ForOp loop) {
  mlir::Block &body = loop.getBody().front();
  Last last{};
  bool others = false;
  for (mlir::Operation &op : body) {
    if (op.getNumRegions() && op.walk([](cta::MmaOp) { return mlir::WalkResult::interrupt(); }).wasInterrupted())
      return std::nullopt;
    auto product = mlir::dyn_cast<cta::MmaOp>(op);
    if (!product) continue;
    if (product.getForm() == tile::DotForm::NT && !product.getAcc()) others = true;
    else if (last.product) return std::nullopt;
    else last.product = product;
  }
  if (!others || !last.product || last.product.getForm() != tile::DotForm::NN || !last.product.getAcc())
    return std::nullopt;
  auto pairs = last.product.getLhs().getDefiningOp<tile::PairwiseOp>();
  last.tile = last.product.getRhs().getDefiningOp<cta::AcquireOp>();
  if (!pairs || pairs->getBlock() != &body || !last.product.getLhs().hasOneUse()) return std::nullopt;
  if (!last.tile || last.tile->getBlock() != &body || !last.tile.getResult().hasOneUse()) return std::nullopt;
  if (last.tile.getRing().getDefiningOp<cta::RingOp>().getCarries()) return std::nullopt;
  last.release = userOf<cta::ReleaseOp>(last.tile.getRing(), &body);
  // From the sum's last use back to what the loop carries.
  if (!last.product.getResult().hasOneUse()) return std::nullopt;
  mlir::OpOperand &use = *last.product.getResult().use_begin();
  if (!mlir::isa<tile::YieldOp>(use.getOwner())) return std::nullopt;
  last.carried = use.getOperandNumber();
  Value sum = last.product.getAcc();
  while (auto scaled = sum.getDefiningOp<tile::ScaleRowsOp>()) {
    if (!sum.hasOneUse()) return std::nullopt;
    sum = scaled.getTile();
  }
  if (sum != loop.getRegionIterArgs()[last.carried] || !sum.hasOneUse() || !last.release) return std::nullopt;
  for (mlir::Operation &op : body)
    if (!last.first && llvm::any_of(op.getOperands(), [&](Value operand) {
          auto product = operand.getDefiningOp<cta::MmaOp>();
          return product && product->getBlock() == &body;
        }))
      last.first = &op;
  return last;
}

class Stagger {
 public:
  Stagger(cta::RolesOp roles, tile::ForOp loop, Last own)
      : roles(roles), loop(loop), last(own), ring(own.tile.getRing()), builder(loop), loc(loop.getLoc()) {}

  void run() {
    produce();
    Value cursor = makeCursor(roles.getConsumers());
    consume(cursor);
  }

 private:
  cta::RolesOp roles;
  tile::ForOp loop;
  Last last;
  Value ring;
  mlir::OpBuilder builder;
  const mlir::Location loc;

  /// The ring's tiles are a turn behind the others: it has a cursor of its own.
  Value makeCursor(mlir::Region &role) {
    mlir::OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(&role.front());
    const int64_t stages = ring.getDefiningOp<cta::RingOp>().bufferType().stages();
    return cta::CursorOp::create(builder, loc, cta::CursorType::get(builder.getContext()), stages);
  }

  void produce() {
    Value cursor = makeCursor(roles.getProducer());
    auto fill = userOf<cta::FillOp>(ring, nullptr);
    auto around = mlir::cast<tile::ForOp>(fill->getParentOp());
    builder.setInsertionPoint(around);
    cta::FillOp::create(builder, loc, ring, cursor, around.getBatch(), around.getHead(), around.getStart(), Value(),
                        mlir::FloatAttr(), builder.getUnitAttr());
    cta::AdvanceOp::create(builder, loc, cursor);
    fill.getCursorMutable().assign(cursor);
    builder.setInsertionPoint(around.getBody().front().getTerminator());
    cta::AdvanceOp::create(builder, loc, cursor);
  }

  cta::MmaOp multiply(Value pairs, Value sum, Value cursor) {
    Value tile = cta::AcquireOp::create(builder, loc, last.tile.getResult().getType(), ring, cursor);
    return cta::MmaOp::create(builder, loc, last.product.getResult().getType(), last.product.getKind(),
                              tile::DotForm::NN, pairs, tile, sum);
  }
  void release(Value cursor) {
    cta::ReleaseOp::create(builder, loc, ring, cursor, Value());
    cta::AdvanceOp::create(builder, loc, cursor);
  }

  /// Those of tiles that the turn's other products read go to where the delayed one is needed.
  void holdReleases(mlir::Block &body, cta::MmaOp delayed) {
    auto pairs = last.product.getLhs().getDefiningOp<tile::PairwiseOp>();
    auto sums = llvm::find_if(pairs->getResults(), [](Value result) {
      return mlir::cast<mlir::RankedTensorType>(result.getType()).getRank() == 1;
    });
    if (sums == pairs->getResults().end()) return;
    mlir::Operation *needs = cta::usersIn(body, delayed.getResult()).first;
    if (!pairs->isBeforeInBlock(needs)) return;
    llvm::SmallVector<cta::ReleaseOp> earlier;
    for (auto own : body.getOps<cta::ReleaseOp>())
      if (own != last.release && own->isBeforeInBlock(needs)) earlier.push_back(own);
    for (cta::ReleaseOp own : earlier) {
      own->moveBefore(needs);
      own.getAfterMutable().assign(*sums);
    }
  }

  void consume(Value cursor) {
    mlir::Block &body = loop.getBody().front();
    Value pairs = last.product.getLhs(), carried = loop.getRegionIterArgs()[last.carried];
    auto yield = mlir::cast<tile::YieldOp>(body.getTerminator());
    // What the product was added to is what the turn leaves to the next.
    llvm::SmallVector<Value> next(yield.getValues());
    next[last.carried] = last.product.getAcc();
    next.push_back(pairs);
    Value earlier = body.addArgument(pairs.getType(), loc);
    builder.setInsertionPoint(last.first);
    auto product = multiply(earlier, carried, cursor);
    carried.replaceAllUsesExcept(product.getResult(), product);
    for (Value &value : next)
      if (value == carried) value = product.getResult();
    holdReleases(body, product);
    builder.setInsertionPoint(yield);
    release(cursor);
    tile::YieldOp::create(builder, yield.getLoc(), next);
    yield.erase();

    builder.setInsertionPoint(loop);
    Value zero = mlir::arith::ConstantOp::create(builder, loc, builder.getF32FloatAttr(0));
    llvm::SmallVector<Value> inits(loop.getInitArgs());
    inits.push_back(tile::FillOp::create(builder, loc, pairs.getType(), zero, tile::Side::Query));
    auto staggered =
        tile::ForOp::create(builder, loc, mlir::TypeRange(mlir::ValueRange(inits)), loop.getOver(), loop.getBatch(),
                            loop.getHead(), loop.getStart(), inits, loop.getKeyDimAttr(), loop.getPlanAttr());
    staggered->setDiscardableAttrs(loop->getDiscardableAttrDictionary());
    staggered.getBody().takeBody(loop.getBody());
    // What only the loop read is free before the last product is done.
    mlir::Operation *behind = loop;
    while (mlir::isa<cta::ReleaseOp>(behind->getNextNode())) behind = behind->getNextNode();
    builder.setInsertionPointAfter(behind);
    auto end = multiply(staggered.getResults().back(), staggered.getResults()[last.carried], cursor);
    release(cursor);
    for (auto [at, result] : llvm::enumerate(loop.getResults()))
      result.replaceAllUsesWith(at == last.carried ? Value(end.getResult()) : Value(staggered.getResults()[at]));
    last.release.erase();
    last.product.erase();
    last.tile.erase();
    loop.erase();
  }
};

struct StaggerProducts : impl::StaggerProductsBase<StaggerProducts> {
  void runOnOperation() override {
    llvm::SmallVector<cta::RolesOp> all;
    getOperation().walk([&](cta::RolesOp roles) { all.push_back(roles); });
    for (cta::RolesOp roles : all) {
      llvm::SmallVector<tile::ForOp> loops;
      roles.getConsumers().walk([&](tile::ForOp loop) {
        if (loop.overKept()) loops.push_back(loop);
      });
      for (tile::ForOp loop : loops)
        if (auto last = lastProduct(loop)) Stagger(roles, loop, *last).run();
    }
  }
};

}  // namespace
}  // namespace weft
