// Lets products of warpgroups go on beside what does not need them.
//
// Before: each cta.mma is done before the next operation. After: those of warpgroups are async, and a cta.wait_mma
// stands before the first operation that needs one, or that shared memory or other threads have to do with; products
// that were started later than those needed go on. Products that follow one another, q k' and do v', then the sums of
// dv and dk, fill the tensor cores without a gap. Tiles of rings are released once the products that read them are
// done. Test: overlap_products.mlir
#include "compiler/dialect/cta.h"
#include "compiler/passes.h"

namespace weft {

#define GEN_PASS_DEF_OVERLAPPRODUCTS
#include "compiler/Passes.h.inc"

namespace {

class Overlap {
 public:
  explicit Overlap(mlir::Block &block) {
    for (mlir::Operation &op : llvm::make_early_inc_range(block)) visit(&op);
    internalCheck(underWay.empty(), "overlap-products", "a product that nobody waits for");
  }

 private:
  llvm::SmallVector<cta::MmaOp> underWay;      ///< in the order in which they were started
  llvm::SmallVector<cta::ReleaseOp> releases;  ///< of tiles that products under way read

  /// Whole loops and branches: what is inside them is not looked at from here.
  static bool isControlFlow(mlir::Operation *op) {
    return op->hasTrait<mlir::OpTrait::IsTerminator>() ||
           mlir::isa<mlir::LoopLikeOpInterface, mlir::RegionBranchOpInterface, cta::RolesOp>(op);
  }
  bool isAlone(mlir::Operation *op) const {
    if (auto advance = mlir::dyn_cast<cta::AdvanceOp>(op))
      return llvm::any_of(releases, [&](cta::ReleaseOp own) { return own.getCursor() == advance.getCursor(); });
    return isControlFlow(op) || mlir::isa<cta::BarrierOp, cta::FenceAsyncOp, cta::CopyAsyncOp, cta::CopyRowsAsyncOp,
                                          cta::CommitGroupOp, cta::WaitGroupOp, cta::StoreSharedOp>(op);
  }
  /// How many of those under way, from the first on, have to be done before it.
  size_t neededBy(mlir::Operation *op) const {
    if (isAlone(op)) return underWay.size();
    size_t needed = 0;
    for (mlir::Value operand : op->getOperands())
      if (auto found = llvm::find(underWay, operand.getDefiningOp<cta::MmaOp>()); found != underWay.end())
        needed = std::max(needed, static_cast<size_t>(found - underWay.begin()) + 1);
    return needed;
  }
  bool isRead(mlir::Value ring) const {
    return llvm::any_of(underWay, [&](cta::MmaOp product) {
      return llvm::any_of(product->getOperands(), [&](mlir::Value side) {
        auto tile = side.getDefiningOp<cta::AcquireOp>();
        return tile && tile.getRing() == ring;
      });
    });
  }

  void visit(mlir::Operation *op) {
    if (auto release = mlir::dyn_cast<cta::ReleaseOp>(op); release && isRead(release.getRing())) {
      releases.push_back(release);
      return;
    }
    if (const size_t needed = neededBy(op)) waitBefore(op, needed);
    for (mlir::Region &region : op->getRegions())
      for (mlir::Block &block : region) Overlap inner(block);
    if (auto product = mlir::dyn_cast<cta::MmaOp>(op); product && cta::isWgmma(product.getKind())) {
      product.setAsync(true);
      underWay.push_back(product);
    }
  }

  /// For the first `count` products.
  void waitBefore(mlir::Operation *op, size_t count) {
    mlir::OpBuilder builder(op);
    llvm::SmallVector<mlir::Value> products;
    for (cta::MmaOp product : llvm::ArrayRef(underWay).take_front(count)) products.push_back(product.getResult());
    int64_t left = 0;
    for (cta::MmaOp product : llvm::ArrayRef(underWay).drop_front(count)) left += cta::groupsOf(product);
    auto wait = cta::WaitMmaOp::create(builder, op->getLoc(), mlir::TypeRange(mlir::ValueRange(products)), products,
                                       static_cast<uint64_t>(left));
    for (auto [product, done] : llvm::zip(products, wait.getResults())) product.replaceAllUsesExcept(done, wait);
    underWay.erase(underWay.begin(), underWay.begin() + static_cast<ptrdiff_t>(count));
    llvm::erase_if(releases, [&](cta::ReleaseOp release) {
      if (isRead(release.getRing())) return false;
      release->moveBefore(op);
      return true;
    });
  }
};

struct OverlapProducts : impl::OverlapProductsBase<OverlapProducts> {
  void runOnOperation() override {
    const bool done = attempt(getOperation(), [&] {
      getOperation().walk([](tile::KernelOp kernel) { Overlap all(kernel.getBody().front()); });
    });
    if (!done) signalPassFailure();
  }
};

}  // namespace
}  // namespace weft
