// Planning kernels: scalar programs whose values keep their own types, for any target.
#pragma once

#include <functional>
#include <optional>

#include "compiler/target/tensors.h"

namespace weft::target {

/// The threads of a warp that share the turns of a program's loops.
struct Lanes {
  static constexpr int count = 32;
  Value own;                                             ///< i32, below `count`
  std::function<Value(Value value, int mask)> exchange;  ///< i32 or f32: that of lane own xor mask
  std::function<Value(Value flag)> ballot;               ///< i32: the flags of all lanes
  std::function<void()> sync;  ///< what a lane has stored before, the others can load after it
};

class ScalarProgram {
 public:
  /// `scalars` maps the kernel's values to code; coordinates there are i64.
  ScalarProgram(Emitter &emit, KernelArguments &slots, llvm::DenseMap<Value, Value> &scalars)
      : emit(emit), slots(slots), scalars(scalars) {}

  std::optional<Lanes> lanes;  ///< null: one thread runs a program alone
  Value workspace;             ///< the program's own, see kernel_image.h

  /// The code of a value in the type the kernel gave it.
  Value plain(Value value);
  void emitOp(mlir::Operation &op);

 private:
  Emitter &emit;
  KernelArguments &slots;
  llvm::DenseMap<Value, Value> &scalars;

  bool shared = false;  ///< in a loop whose turns the lanes share
  Value inRange;        ///< there: this lane has a turn; null: all do

  Value buffer(llvm::StringRef name);
  Value isTrue(Value byte);
  Value loadFlat(mlir::Type type, Value from, Value index);
  void storeFlat(Value value, Value to, Value index);

  std::vector<Value> loopInits(mlir::scf::ForOp loop);
  void emitLoop(mlir::scf::ForOp loop, Value from, Value step, llvm::ArrayRef<Value> inits,
                const std::function<Value(Value)> &turn);
  void emitSharedLoop(mlir::scf::ForOp loop, tile::Independent meeting);
  Value emitAppend(tile::AppendOp op);
  void emitPoolRows(tile::PoolRowsOp op);
  void emitFlatDots(tile::FlatDotsOp op);
  /// One of the lanes alone, where all run the same.
  template <class Body>
  void byOne(Body body) {
    if (!lanes || shared) return body();
    emit.when(mlir::arith::CmpIOp::create(emit.b, emit.loc, mlir::arith::CmpIPredicate::eq, lanes->own, emit.i32(0)),
              body);
  }
  std::vector<Value> planIndices(const std::string &name, mlir::OperandRange operands);
  Value planRead(dialect::ReadOp read);
  Value planRead(const std::string &name, llvm::ArrayRef<Value> indices, mlir::Type type);
  /// The least or the greatest of two: numbers, flags or registers of numbers. NaN is both.
  Value better(Value x, Value y, bool least);
  void emitReadRange(tile::ReadRangeOp op);
};

}  // namespace weft::target
