// Planning kernels: scalar programs whose values keep their own types, for any target.
#pragma once

#include "compiler/target/tensors.h"

namespace weft::target {

class PlanRegion {
 public:
  /// `scalars` maps the kernel's values to code; coordinates there are i64.
  PlanRegion(Emitter &emit, Slots &slots, llvm::DenseMap<Value, Value> &scalars)
      : emit(emit), slots(slots), scalars(scalars) {}

  /// The code of a value in the type the kernel gave it.
  Value plain(Value value);
  void emitOp(mlir::Operation &op);

 private:
  Emitter &emit;
  Slots &slots;
  llvm::DenseMap<Value, Value> &scalars;

  std::vector<Value> planIndices(const std::string &name, mlir::OperandRange operands);
  Value planRead(const std::string &name, llvm::ArrayRef<Value> indices, mlir::Type type);
  void emitReadRange(tile::ReadRangeOp op);
};

}  // namespace weft::target
