// Interval arithmetic over the pairwise program: builds code that computes, for a box of (i, j),
// bounds of any scalar and whether its derivative can be non-zero there.
#pragma once

#include "compiler/transforms/scalar_builder.h"
#include "llvm/ADT/DenseMap.h"

namespace weft {

/// Bounds of a number, never NaN themselves; of a condition, `lo` is "always true" and `hi` is "can be true".
struct Interval {
  mlir::Value lo, hi;
  mlir::Value varies;      ///< i1: a derivative with respect to a float input can be non-zero
  mlir::Value nan;         ///< i1: it can be NaN besides; null: never
  mlir::Value exact = {};  ///< a float that is one number over the whole box, NaN included; null: not known to be one
};

/// A box of pairs: i in [i.lo, i.hi], j in [j.lo, j.hi], all i32 values, of one head or, with `lastHead`, of all from h
/// to it, which are of one group.
struct Box {
  mlir::Value b, h;
  Interval i, j;
  mlir::Value lastHead = {};
};

class IntervalBuilder {
 public:
  IntervalBuilder(mlir::OpBuilder &builder, mlir::Location loc, dialect::PairwiseOp program, const Box &box);

  /// Bounds of a value of the program over the box, as code at the builder's insertion point.
  Interval of(mlir::Value value);

 private:
  ScalarBuilder s;  ///< its ints saturate: bounds of what rises are the values at its ends
  llvm::DenseMap<mlir::Value, Interval> known;

  Interval point(mlir::Value value);
  Interval whole(mlir::Type type, mlir::Value varies);
  Interval numbers(Interval bounds);
  /// The one number that the kernels compute for every pair of the box; null where there can be several.
  static mlir::Value single(const Interval &x) {
    return x.exact || dialect::isReal(x.lo.getType()) || x.lo != x.hi ? x.exact : x.lo;
  }
  mlir::Value both(mlir::Value a, mlir::Value b) { return s.map(Function::And, {a, b}); }
  mlir::Value either(mlir::Value a, mlir::Value b) { return s.map(Function::Or, {a, b}); }
  mlir::Value negate(mlir::Value a);
  mlir::Value nanOf(const Interval &x) { return x.nan ? x.nan : s.constantBool(false); }
  mlir::Value unequal(mlir::Value a, mlir::Value b) { return s.map(Function::Ne, {a, b}); }
  mlir::Value infinite(const Interval &x);
  mlir::Value spansZero(const Interval &x);
  /// The operands are known.
  Interval fromOperands(mlir::Value value);
  Interval mapInterval(dialect::MapOp op);
  /// The function of `op` on other numbers.
  mlir::Value same(dialect::MapOp op, mlir::ValueRange args);
  Interval readInterval(dialect::ReadOp op);
  Interval segmentInterval(dialect::ReadOp op);

  /// A function and the bounds of its arguments.
  struct Call {
    dialect::MapOp op;
    Function function;
    llvm::SmallVector<Interval, 3> x;
    mlir::Value varies, nan;  ///< of any of them
    mlir::Value zero;         ///< of the type of the first
    bool real;                ///< the result is a float
  };
  Interval boundsOf(dialect::MapOp op);
  Interval boundsOfSum(const Call &call);
  Interval boundsOfProduct(const Call &call);
  Interval boundsOfRemainder(const Call &call);
  Interval boundsOfQuotient(const Call &call);
  Interval boundsOfBits(const Call &call);
  Interval corners(const Call &call);
  Interval boundsOfExtremum(const Call &call);
  Interval boundsOfClamp(const Call &call);
  Interval boundsOfAbs(const Call &call);
  Interval boundsOfRounded(const Call &call);
  Interval boundsOfTriangle(const Call &call);
  Interval boundsOfEquality(const Call &call);
  Interval boundsOfChoice(const Call &call);
  /// The values at the argument's ends.
  Interval rising(const Call &call, mlir::Value nan);
  Interval about(Interval bounds);
  mlir::Value on(const Call &call, mlir::ValueRange args) { return same(call.op, args); }
  mlir::Value least(mlir::Value a, mlir::Value b) { return s.map(Function::Min, {a, b}); }
  mlir::Value greatest(mlir::Value a, mlir::Value b) { return s.map(Function::Max, {a, b}); }
};

}  // namespace weft
