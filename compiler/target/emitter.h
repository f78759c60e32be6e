// Short names for what both back ends emit most: integers, addresses, vectors, loops.
#pragma once

#include "compiler/dialect/dialects.h"
#include "compiler/kernel_image.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Builders.h"

namespace weft::target {

using mlir::Value;

/// What a lowering asks of the machine it compiles for.
struct Machine {
  int lanes = 4;          ///< floats of a vector register; 1: values stay scalars (a GPU's thread)
  int registers = 16;     ///< vector registers
  bool avx512 = false;    ///< AVX-512's own instructions
  bool scalable = false;  ///< registers are SVE's, of the length that the lanes say
  bool amx = false;       ///< AMX tiles of bf16
  /// What multiplies pairs of bf16 faster than f32 FMA: dot products of pairs (AVX-512), small matrices (NEON, SVE).
  enum class Pairs { None, Dots, Matrices } pairs = Pairs::None;
  bool roundsToBf16 = false;  ///< has instructions for it
  unsigned globalSpace = 0;   ///< address space of tensors
};

class Emitter {
 public:
  Emitter(mlir::OpBuilder &builder, const Machine &machine)
      : b(builder), loc(builder.getUnknownLoc()), machine(machine) {}

  mlir::OpBuilder &b;
  mlir::Location loc;
  Machine machine;

  // Types
  mlir::Type ptrType() { return mlir::LLVM::LLVMPointerType::get(b.getContext(), machine.globalSpace); }
  /// A register of elements; the element itself on machines of one lane.
  mlir::Type vectorOf(mlir::Type element) {
    if (machine.lanes == 1) return element;
    return mlir::VectorType::get({machine.lanes}, element);
  }
  /// What arithmetic on floats is done in: f32 or f64.
  mlir::FloatType real() { return dialect::realType(b.getContext()); }
  mlir::Type floats() { return vectorOf(real()); }
  mlir::Type storage(ElementType type);

  // Integers (i64 unless said otherwise)
  Value constant(mlir::Type type, int64_t value) { return mlir::arith::ConstantIntOp::create(b, loc, type, value); }
  Value i64(int64_t value) { return mlir::arith::ConstantIntOp::create(b, loc, value, 64); }
  Value i32(int64_t value) { return mlir::arith::ConstantIntOp::create(b, loc, value, 32); }
  Value add(Value x, Value y) { return mlir::arith::AddIOp::create(b, loc, x, y); }
  Value sub(Value x, Value y) { return mlir::arith::SubIOp::create(b, loc, x, y); }
  Value mul(Value x, Value y) { return mlir::arith::MulIOp::create(b, loc, x, y); }
  Value div(Value x, Value y) { return mlir::arith::DivUIOp::create(b, loc, x, y); }
  Value min(Value x, Value y) { return mlir::arith::MinSIOp::create(b, loc, x, y); }
  Value max(Value x, Value y) { return mlir::arith::MaxSIOp::create(b, loc, x, y); }
  Value fma(Value x, Value y, Value z) { return mlir::math::FmaOp::create(b, loc, x, y, z); }
  Value less(Value x, Value y) { return mlir::arith::CmpIOp::create(b, loc, mlir::arith::CmpIPredicate::slt, x, y); }
  /// Of an i32.
  Value equals(Value x, int64_t value) {
    return mlir::arith::CmpIOp::create(b, loc, mlir::arith::CmpIPredicate::eq, x, i32(value));
  }
  Value toI64(Value x) { return mlir::arith::ExtSIOp::create(b, loc, b.getI64Type(), x); }
  Value toI32(Value x) { return mlir::arith::TruncIOp::create(b, loc, b.getI32Type(), x); }
  /// What is not negative and fits 32 bits, as the code then shows.
  Value narrow(Value x) { return mlir::arith::ExtUIOp::create(b, loc, b.getI64Type(), toI32(x)); }

  /// The last n below `count` (i32) whose number, `load(n)`, is at most `x`; -1 before the first. i32, or vectors of
  /// it.
  Value segment(Value count, Value x, llvm::function_ref<Value(Value)> load);

  // Memory
  Value at(Value base, Value index, mlir::Type element) {
    return mlir::LLVM::GEPOp::create(b, loc, base.getType(), element, base, llvm::ArrayRef<mlir::LLVM::GEPArg>{index});
  }
  Value at(Value base, Value index) { return at(base, index, real()); }
  Value at(Value base, int32_t index) {
    return index == 0 ? base
                      : Value(mlir::LLVM::GEPOp::create(b, loc, base.getType(), real(), base,
                                                        llvm::ArrayRef<mlir::LLVM::GEPArg>{index}));
  }
  Value load(mlir::Type type, Value pointer, unsigned alignment = 4) {
    return mlir::LLVM::LoadOp::create(b, loc, type, pointer, alignment);
  }
  void store(Value value, Value pointer, unsigned alignment = 4) {
    mlir::LLVM::StoreOp::create(b, loc, value, pointer, alignment);
  }
  /// Vector of floats; only the first `count` lanes when that is less than a register.
  Value loadLanes(Value pointer, int64_t count);
  void storeLanes(Value value, Value pointer, int64_t count);
  /// A vector of floats from elements of another type.
  Value loadAs(ElementType type, Value pointer, int64_t count);
  void storeAs(ElementType type, Value value, Value pointer, int64_t count);

  // Vectors
  Value splat(Value scalar) {
    if (machine.lanes == 1) return scalar;
    return mlir::vector::BroadcastOp::create(b, loc, vectorOf(scalar.getType()), scalar);
  }
  Value constantF(double value) { return mlir::arith::ConstantOp::create(b, loc, b.getFloatAttr(real(), value)); }
  Value zeros() { return mlir::arith::ConstantOp::create(b, loc, b.getZeroAttr(floats())); }
  Value iota();
  Value firstLanes(Value count);  ///< i64 -> vector<i1>
  Value firstLanes(int64_t count);
  /// Transposes `lanes` vectors of `lanes` elements in registers.
  std::vector<Value> transpose(std::vector<Value> rows);

  // Loops over i64 or i32: body(index). Steps are positive.
  template <class Body>
  void loop(Value from, Value to, int64_t step, Body body) {
    auto op = mlir::scf::ForOp::create(b, loc, from, to, constant(from.getType(), step));
    mlir::OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(op.getBody());
    body(op.getInductionVar());
  }
  /// Loop that carries values: body(index, carried) gives the next ones.
  template <class Body>
  std::vector<Value> loop(Value from, Value to, int64_t step, mlir::ValueRange inits, Body body) {
    auto op = mlir::scf::ForOp::create(b, loc, from, to, constant(from.getType(), step), inits);
    mlir::OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(op.getBody());
    std::vector<Value> next = body(op.getInductionVar(), mlir::ValueRange(op.getRegionIterArgs()));
    if (!next.empty()) mlir::scf::YieldOp::create(b, loc, next);
    return {op.getResults().begin(), op.getResults().end()};
  }
  template <class Body>
  void when(Value condition, Body body) {
    auto op = mlir::scf::IfOp::create(b, loc, condition, false);
    mlir::OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(op.thenBlock());
    body();
  }
  template <class Yes, class No>
  void choose(Value condition, Yes yes, No no) {
    auto op = mlir::scf::IfOp::create(b, loc, condition, true);
    mlir::OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(op.thenBlock());
    yes();
    b.setInsertionPointToStart(op.elseBlock());
    no();
  }
};

}  // namespace weft::target
