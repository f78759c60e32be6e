#include "compiler/target/lives.h"

#include "llvm/ADT/STLExtras.h"

namespace weft::target {

void TextOrder::number(mlir::Operation *op) {
  firsts[op] = next++;
  for (mlir::Region &region : op->getRegions())
    for (mlir::Block &block : region)
      for (mlir::Operation &inner : block) number(&inner);
  lasts[op] = next - 1;
}

int64_t place(llvm::MutableArrayRef<Life> lives) {
  int64_t most = 0;
  for (auto [at, own] : llvm::enumerate(lives)) {
    // The first gap among those that live at the same time, from the lowest on.
    llvm::SmallVector<const Life *> beside;
    for (const Life &other : lives.take_front(at))
      if (other.begin <= own.end && own.begin <= other.end) beside.push_back(&other);
    llvm::sort(beside, [](const Life *x, const Life *y) { return x->offset < y->offset; });
    for (const Life *other : beside) {
      if (own.offset + own.bytes <= other->offset) break;
      own.offset = std::max(own.offset, other->offset + other->bytes);
    }
    most = std::max(most, own.offset + own.bytes);
  }
  return most;
}

}  // namespace weft::target
