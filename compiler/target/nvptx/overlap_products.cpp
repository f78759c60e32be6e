// Lets products of warpgroups go on beside one another until one of them is needed.
//
// Before: each cta.mma is done before the next operation. After: those of warpgroups are async, and one cta.wait_mma
// for all that are under way stands before the first operation that needs one, or that shared memory or other threads
// have to do with. Products that follow one another, q k' and do v', then the sums of dv and dk, fill the tensor cores
// without a gap. Test: overlap_products.mlir
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
  llvm::SmallVector<cta::MmaOp> underWay;

  static bool isAlone(mlir::Operation *op) {
    return op->getNumRegions() || op->hasTrait<mlir::OpTrait::IsTerminator>() ||
           mlir::isa<cta::BarrierOp, cta::FenceAsyncOp, cta::CopyAsyncOp, cta::CopyRowsAsyncOp, cta::CommitGroupOp,
                     cta::WaitGroupOp, cta::StoreSharedOp>(op);
  }
  bool needsOne(mlir::Operation *op) const {
    return llvm::any_of(op->getOperands(), [&](mlir::Value operand) {
      auto product = operand.getDefiningOp<cta::MmaOp>();
      return product && llvm::is_contained(underWay, product);
    });
  }

  void visit(mlir::Operation *op) {
    if (isAlone(op) || needsOne(op)) waitBefore(op);
    for (mlir::Region &region : op->getRegions())
      for (mlir::Block &block : region) Overlap inner(block);
    if (auto product = mlir::dyn_cast<cta::MmaOp>(op); product && cta::isWgmma(product.getKind())) {
      product.setAsync(true);
      underWay.push_back(product);
    }
  }

  void waitBefore(mlir::Operation *op) {
    if (underWay.empty()) return;
    mlir::OpBuilder builder(op);
    llvm::SmallVector<mlir::Value> products;
    for (cta::MmaOp product : underWay) products.push_back(product.getResult());
    auto wait = cta::WaitMmaOp::create(builder, op->getLoc(), mlir::TypeRange(mlir::ValueRange(products)), products);
    for (auto [product, done] : llvm::zip(products, wait.getResults())) product.replaceAllUsesExcept(done, wait);
    underWay.clear();
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
