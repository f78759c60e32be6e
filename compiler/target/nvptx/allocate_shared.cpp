// Gives each buffer its place in shared memory.
//
// Before: cta.alloc without an offset. After: each has one, and the kernel says how many bytes it takes
// (`cta.shared_bytes`). Buffers whose lives do not meet may lie in the same place. A buffer of a loop lives for the
// whole turn: a place taken twice in a turn would cost a barrier more. Test: allocate_shared.mlir
#include "compiler/dialect/cta.h"
#include "compiler/passes.h"

namespace weft {

#define GEN_PASS_DEF_ALLOCATESHARED
#include "compiler/Passes.h.inc"

namespace {

struct Life {
  cta::AllocOp alloc;
  int64_t begin = 0, end = 0;  ///< first and last operation, in the order of the text
  int64_t offset = 0;
  int64_t bytes() { return alloc.getResult().getType().bytes(); }
};

/// Numbers of operations in the order of the text: its own, and that of the last operation inside.
class Order {
 public:
  explicit Order(mlir::Operation *root) { number(root); }
  int64_t first(mlir::Operation *op) const { return firsts.lookup(op); }
  int64_t last(mlir::Operation *op) const { return lasts.lookup(op); }

 private:
  int64_t next = 0;
  llvm::DenseMap<mlir::Operation *, int64_t> firsts, lasts;

  void number(mlir::Operation *op) {
    firsts[op] = next++;
    for (mlir::Region &region : op->getRegions())
      for (mlir::Block &block : region)
        for (mlir::Operation &inner : block) number(&inner);
    lasts[op] = next - 1;
  }
};

/// The end of the last operation beside `alloc` that the value reaches.
int64_t lastUse(const Order &order, cta::AllocOp alloc, mlir::Value value) {
  int64_t last = order.last(alloc);
  for (mlir::Operation *user : value.getUsers()) {
    mlir::Operation *beside = alloc->getBlock()->findAncestorOpInBlock(*user);
    last = std::max(last, order.last(beside));
    if (mlir::isa<cta::StageOp>(user)) last = std::max(last, lastUse(order, alloc, user->getResult(0)));
  }
  return last;
}

bool isInnermost(mlir::Operation *loop) {
  return !loop->walk([&](mlir::LoopLikeOpInterface inner) {
                return inner == loop ? mlir::WalkResult::advance() : mlir::WalkResult::interrupt();
              })
              .wasInterrupted();
}

/// Returns the bytes taken.
int64_t allocate(tile::KernelOp kernel) {
  const Order order(kernel);
  llvm::SmallVector<Life> placed;
  int64_t most = 0;
  kernel.walk<mlir::WalkOrder::PreOrder>([&](cta::AllocOp alloc) {
    Life own{alloc, order.first(alloc), lastUse(order, alloc, alloc.getResult())};
    mlir::Operation *loop = alloc->getParentOp();
    if (loop != kernel && isInnermost(loop)) {
      own.begin = order.first(loop);
      own.end = order.last(loop);
    }
    // The first gap among those that live at the same time, from the lowest on.
    llvm::SmallVector<Life *> beside;
    for (Life &other : placed)
      if (other.begin <= own.end && own.begin <= other.end) beside.push_back(&other);
    llvm::sort(beside, [](Life *x, Life *y) { return x->offset < y->offset; });
    for (Life *other : beside) {
      if (own.offset + own.bytes() <= other->offset) break;
      own.offset = std::max(own.offset, other->offset + other->bytes());
    }
    alloc.setOffset(own.offset);
    most = std::max(most, own.offset + own.bytes());
    placed.push_back(own);
  });
  return most;
}

struct AllocateShared : impl::AllocateSharedBase<AllocateShared> {
  using AllocateSharedBase::AllocateSharedBase;
  void runOnOperation() override {
    getOperation().walk([](tile::KernelOp kernel) {
      kernel->setAttr(cta::sharedBytes,
                      mlir::IntegerAttr::get(mlir::IntegerType::get(kernel.getContext(), 64), allocate(kernel)));
    });
  }
};

}  // namespace
}  // namespace weft
