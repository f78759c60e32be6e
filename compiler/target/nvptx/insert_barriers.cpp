// Inserts the barriers without which a thread could read what another has not written, or overwrite what another still
// reads, in shared memory.
//
// Before: buffers with their places, accesses in the order of the text. After: a cta.barrier before each access that an
// earlier one of another thread could meet; one of them serves all that came before. A copy's bytes arrive where its
// group is waited for. Products of warpgroups read it another way (the async proxy): before the barrier each thread
// makes visible what it has written (cta.fence_async). All threads run the same turns and branches, so that a barrier
// may stand in either, but never inside a branch here, nor where it is one warpgroup's turn: the others would wait for
// that. Where there are roles, it is the consumers that the barriers are
// of; what they read of rings has come, and stays as long as they hold it. Test: insert_barriers.mlir
#include "compiler/dialect/cta.h"
#include "compiler/passes.h"
#include "llvm/ADT/SetVector.h"

namespace weft {

#define GEN_PASS_DEF_INSERTBARRIERS
#include "compiler/Passes.h.inc"

namespace {

/// Bytes of shared memory: from, to.
using Bytes = std::pair<int64_t, int64_t>;
using Places = llvm::SmallSetVector<Bytes, 8>;

/// What was done since the last barrier.
struct Since {
  Places read, written;
  Places onTheWay;  ///< copies whose arrival has not been waited for; a barrier does not end them

  /// Returns whether anything was new.
  bool join(const Since &other) {
    const size_t before = size();
    read.insert_range(other.read);
    written.insert_range(other.written);
    onTheWay.insert_range(other.onTheWay);
    return size() != before;
  }
  size_t size() const { return read.size() + written.size() + onTheWay.size(); }
  void barrier() {
    read.clear();
    written.clear();
  }
};

enum class Access { Read, Write, Copy };

bool meets(const Places &places, Bytes own) {
  return llvm::any_of(places, [&](Bytes other) { return own.first < other.second && other.first < own.second; });
}

Bytes bytesOf(mlir::Value buffer) {
  // A stage may be any of its buffer's tiles.
  if (auto stage = buffer.getDefiningOp<cta::StageOp>()) buffer = stage.getBuffer();
  auto alloc = buffer.getDefiningOp<cta::AllocOp>();
  internalCheck(alloc && alloc.getOffset(), "insert-barriers", "a buffer without a place");
  const auto offset = static_cast<int64_t>(*alloc.getOffset());
  return {offset, offset + alloc.getResult().getType().bytes()};
}

/// Of an operation itself, not of what is inside it.
void eachAccess(mlir::Operation *op, llvm::function_ref<void(Access, Bytes)> body) {
  if (auto copy = mlir::dyn_cast<cta::CopyAsyncOp>(op)) return body(Access::Copy, bytesOf(copy.getBuffer()));
  if (auto copy = mlir::dyn_cast<cta::CopyRowsAsyncOp>(op)) return body(Access::Copy, bytesOf(copy.getBuffer()));
  if (auto store = mlir::dyn_cast<cta::StoreSharedOp>(op)) return body(Access::Write, bytesOf(store.getBuffer()));
  auto reads = [&](mlir::Operation *reader) {
    for (mlir::Value operand : reader->getOperands())
      if (mlir::isa<cta::SharedType>(operand.getType()) && !operand.getDefiningOp<cta::AcquireOp>())
        body(Access::Read, bytesOf(operand));
  };
  if (mlir::isa<cta::MmaOp, tile::PairwiseOp>(op)) reads(op);
  // Products that are async read until here.
  if (auto wait = mlir::dyn_cast<cta::WaitMmaOp>(op))
    for (mlir::Value product : wait.getProducts()) reads(product.getDefiningOp());
}

class Barriers {
 public:
  explicit Barriers(tile::KernelOp kernel) {
    kernel.walk([&](cta::MmaOp op) { asyncProxy |= cta::isWgmma(op.getKind()); });
    visit(kernel.getBody().front());
  }

 private:
  Since since;
  bool asyncProxy = false;  ///< products read that way
  cta::TakeTurnOp turn;     ///< that has not been passed on

  bool needed(Access access, Bytes bytes) const {
    // Where a copy is still on its way nothing is read: what is read there is another stage.
    return meets(since.written, bytes) || (access != Access::Read && meets(since.read, bytes));
  }
  bool needed(mlir::Operation *op) const {
    bool any = false;
    op->walk([&](mlir::Operation *inner) {
      eachAccess(inner, [&](Access access, Bytes bytes) { any |= needed(access, bytes); });
    });
    return any;
  }

  /// At a barrier; a later turn may find more written than the first did.
  void meet(mlir::Operation *barrier) {
    if (asyncProxy && !since.written.empty() && !mlir::isa_and_nonnull<cta::FenceAsyncOp>(barrier->getPrevNode())) {
      mlir::OpBuilder builder(barrier);
      cta::FenceAsyncOp::create(builder, barrier->getLoc());
    }
    since.barrier();
  }

  void visit(mlir::Block &block) {
    for (mlir::Operation &op : block) visit(op);
  }

  void visit(mlir::Operation &op) {
    if (mlir::isa<cta::BarrierOp>(op)) return meet(&op);
    if (auto own = mlir::dyn_cast<cta::TakeTurnOp>(op)) turn = own;
    if (mlir::isa<cta::PassTurnOp>(op)) turn = {};
    if (auto wait = mlir::dyn_cast<cta::WaitGroupOp>(op)) {
      since.written.insert_range(since.onTheWay);
      if (wait.getLeft() == 0) since.onTheWay.clear();
      return;
    }
    // Over programs.
    if (auto roles = mlir::dyn_cast<cta::RolesOp>(op)) return visitLoop(roles.getConsumers());
    if (auto loop = mlir::dyn_cast<mlir::LoopLikeOpInterface>(op)) return visitLoop(*loop.getLoopRegions()[0]);
    if (needed(&op)) {
      // In a turn products are started, and what they read counts as read where they are waited for.
      mlir::OpBuilder builder(turn ? turn.getOperation() : &op);
      meet(cta::BarrierOp::create(builder, op.getLoc()));
    }
    if (auto branch = mlir::dyn_cast<mlir::scf::IfOp>(op)) return visitBranch(branch);
    eachAccess(&op, [&](Access access, Bytes bytes) {
      (access == Access::Read ? since.read : access == Access::Write ? since.written : since.onTheWay).insert(bytes);
    });
  }

  /// Until what a turn leaves behind asks for no more in the next.
  void visitLoop(mlir::Region &region) {
    const Since before = since;
    Since entry = before;
    do {
      since = entry;
      visit(region.front());
    } while (entry.join(since));
    since.join(before);
  }

  void visitBranch(mlir::scf::IfOp branch) {
    const Since before = since;
    visit(*branch.thenBlock());
    Since taken = since;
    since = before;
    if (mlir::Block *other = branch.elseBlock()) visit(*other);
    since.join(taken);
  }
};

struct InsertBarriers : impl::InsertBarriersBase<InsertBarriers> {
  using InsertBarriersBase::InsertBarriersBase;
  void runOnOperation() override {
    const bool inserted =
        attempt(getOperation(), [&] { getOperation().walk([](tile::KernelOp kernel) { Barriers{kernel}; }); });
    if (!inserted) signalPassFailure();
  }
};

}  // namespace
}  // namespace weft
