// Gives each buffer its place in shared memory.
//
// Before: cta.alloc without an offset. After: each has one, and the kernel says how many bytes it takes
// (`cta.shared_bytes`); so have the mbarriers and words of rings and roles. Buffers whose lives do not meet may lie in
// the same place. A buffer of a loop lives for the whole turn: a place taken twice in a turn would cost a barrier more.
// Test: allocate_shared.mlir
#include "compiler/dialect/cta.h"
#include "compiler/passes.h"
#include "compiler/target/lives.h"

namespace weft {

#define GEN_PASS_DEF_ALLOCATESHARED
#include "compiler/Passes.h.inc"

namespace {

using target::TextOrder;

/// The end of the last operation beside `alloc` that the value reaches.
int64_t lastUse(const TextOrder &order, cta::AllocOp alloc, mlir::Value value) {
  int64_t last = order.last(alloc);
  for (mlir::Operation *user : value.getUsers()) {
    last = std::max(last, order.lastBeside(alloc->getBlock(), user));
    if (mlir::isa<cta::StageOp, cta::RingOp>(user)) last = std::max(last, lastUse(order, alloc, user->getResult(0)));
  }
  return last;
}

bool isInnermost(mlir::Operation *loop) {
  return !loop->walk([&](mlir::LoopLikeOpInterface inner) {
                return inner == loop ? mlir::WalkResult::advance() : mlir::WalkResult::interrupt();
              })
              .wasInterrupted();
}

/// Bytes from the start of one buffer to that of the next: where tiles are swizzled, each begins at a multiple.
int64_t spanOf(cta::AllocOp alloc, bool swizzled) {
  const int64_t bytes = alloc.getResult().getType().bytes();
  return swizzled ? static_cast<int64_t>(llvm::alignTo(bytes, cta::SwizzledAttr::alignment)) : bytes;
}

/// Returns the bytes taken.
int64_t allocate(tile::KernelOp kernel) {
  const TextOrder order(kernel);
  llvm::SmallVector<cta::AllocOp> allocs;
  llvm::SmallVector<target::Life> lives;
  const bool swizzled = cta::hasSwizzled(kernel);
  kernel.walk<mlir::WalkOrder::PreOrder>([&](cta::AllocOp alloc) {
    target::Life own{order.first(alloc), lastUse(order, alloc, alloc.getResult()), spanOf(alloc, swizzled)};
    mlir::Operation *loop = alloc->getParentOp();
    if (loop != kernel && isInnermost(loop)) {
      own.begin = order.first(loop);
      own.end = order.last(loop);
    }
    allocs.push_back(alloc);
    lives.push_back(own);
  });
  int64_t bytes = target::place(lives);
  for (auto [alloc, own] : llvm::zip(allocs, lives)) alloc.setOffset(own.offset);
  kernel.walk([&](cta::RingOp ring) {
    bytes = static_cast<int64_t>(llvm::alignTo(bytes, 8));
    ring.setBarriers(bytes);
    bytes += ring.barrierBytes() + ring.wordBytes();
  });
  kernel.walk([&](cta::RolesOp roles) {
    bytes = static_cast<int64_t>(llvm::alignTo(bytes, 8));
    roles.setNumbers(bytes);
    bytes += cta::RolesOp::numberBytes();
  });
  return bytes;
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
