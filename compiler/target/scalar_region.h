// Scalar regions of tile kernels as vector code: queries lie in the lanes of a register, so what
// depends on the query is a vector and all else (b, h, the key j) stays scalar.
#pragma once

#include <functional>

#include "compiler/dialect/dialects.h"
#include "compiler/target/tensors.h"
#include "mlir/IR/IRMapping.h"

namespace weft::target {

/// The pair a region is emitted for. Coordinates are i64, the kernel's own; `i` is the first lane's row.
struct RegionContext {
  Value batch, head, i, j;
  Value inBounds;            ///< (vector of) i1: pairs inside the tensors; null where all are
  bool full = false;         ///< every mask of the tile is true
  bool keysInBounds = true;  ///< j is below `keyDim`
  std::string keyDim = "S";  ///< the dim that counts the keys
};

class ScalarRegion {
 public:
  ScalarRegion(Emitter &emit, KernelArguments &slots, const RegionContext &context)
      : emit(emit), slots(slots), context(context) {}

  void bind(Value from, Value to) { mapping.map(from, to); }
  /// A block argument that is a coordinate: the value, and which index it is.
  enum class Coordinate { B, H, I, J };
  void bindCoordinate(Value from, Coordinate coordinate);

  /// Emits every operation of `block` but the terminator.
  void emitBlock(mlir::Block &block);
  /// The value as a vector<f32> (or as it is, when `vector` is false).
  Value result(Value value, bool vector = true);

  /// Called for weft.accumulate with its emitted value (scalar or vector).
  std::function<void(dialect::AccumulateOp, Value)> onAccumulate;

  /// Called with "a kept pair reads outside a tensor" (i1), for noteOutside; where it is not set, that is done at once.
  std::function<void(Value)> onOutside;

  /// Called for a value defined outside the region.
  std::function<Value(Value)> onOuter;

  /// `moved`: see dialect::movedIndices.
  std::vector<Value> safeIndices(llvm::StringRef input, mlir::OperandRange indices, int moved = 0);

 private:
  Emitter &emit;
  KernelArguments &slots;
  RegionContext context;
  mlir::IRMapping mapping;
  llvm::DenseMap<Value, Coordinate> coordinates;
  std::vector<Value> outside;       ///< conditions "this index left its dim"
  std::vector<Value> outsidePiece;  ///< "it is in the whole sequence and not in the call's piece of it"
  Value mask;

  Value lookup(Value value);
  /// h of each lane, i32: one for all where lanes are queries.
  Value headOfLanes();
  Value read(dialect::ReadOp op);
  /// The element at indices inside of their dims.
  Value element(dialect::ReadOp op, llvm::ArrayRef<Value> indices);
  /// What a dim of groups calls heads (i32).
  Value group(Value head, const std::string &dim);
  /// The indices of what the whole head reads alike (i32), at where the head is known; none of others. Moves the
  /// builder there.
  std::vector<Value> indicesOfHead(dialect::ReadOp op);
  Value random(dialect::RandomOp op);
  void checkOutside();
  static bool isVector(Value value) { return mlir::isa<mlir::VectorType>(value.getType()); }
};

/// Raises the kernel's status.
void noteOutside(Emitter &emit, KernelArguments &slots, Value condition);

}  // namespace weft::target
