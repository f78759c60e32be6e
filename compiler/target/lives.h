// Places in one memory for what lives in it: what is never alive at the same time may lie in the same place.
#pragma once

#include "mlir/IR/Operation.h"

namespace weft::target {

/// Numbers of operations in the order of the text.
class TextOrder {
 public:
  explicit TextOrder(mlir::Operation *root) { number(root); }
  int64_t first(mlir::Operation *op) const { return firsts.lookup(op); }
  /// That of the last operation inside of it.
  int64_t last(mlir::Operation *op) const { return lasts.lookup(op); }
  /// The same of the operation of `block` that `op` is in.
  int64_t lastBeside(mlir::Block *block, mlir::Operation *op) const { return last(block->findAncestorOpInBlock(*op)); }

 private:
  int64_t next = 0;
  llvm::DenseMap<mlir::Operation *, int64_t> firsts, lasts;

  void number(mlir::Operation *op);
};

struct Life {
  int64_t begin, end;  ///< first and last operation, in the order of the text
  int64_t bytes;
  int64_t offset = 0;  ///< the place
};
/// Gives each of `lives`, one after another, the lowest place that is free as long as it lives. Returns the bytes that
/// all take together.
int64_t place(llvm::MutableArrayRef<Life> lives);

}  // namespace weft::target
