// Builds scalar `weft.map` expressions; what is known is folded (MapOp::fold).
#pragma once

#include <vector>

#include "compiler/dialect/dialects.h"
#include "compiler/language/ast.h"
#include "mlir/Dialect/Arith/IR/Arith.h"

namespace weft {

using ast::Function;

/// True for the functions whose result on ints can leave 32 bits.
bool canSaturate(Function function);

/// Marks a quotient of f32 (arith.divf) that may be off by two units in the last place.
inline constexpr const char *approximate = "weft.approximate";

/// What arithmetic on ints means. Saturating: that of the language. Exact: that of positions and offsets, which fit.
enum class Ints { Saturating, Exact };

class ScalarBuilder {
 public:
  ScalarBuilder(mlir::OpBuilder &builder, mlir::Location loc, Ints ints = Ints::Saturating)
      : builder(builder), loc(loc), ints(ints) {}

  mlir::Value constant(double value);
  mlir::Value constantInt(int64_t value);
  mlir::Value constantBool(bool value);
  /// f(args...); the result type follows from f and the arguments.
  mlir::Value map(Function function, mlir::ValueRange args);

  mlir::Value add(mlir::Value a, mlir::Value b) { return map(Function::Add, {a, b}); }
  mlir::Value sub(mlir::Value a, mlir::Value b) { return map(Function::Sub, {a, b}); }
  mlir::Value mul(mlir::Value a, mlir::Value b) { return map(Function::Mul, {a, b}); }
  mlir::Value div(mlir::Value a, mlir::Value b) { return map(Function::Div, {a, b}); }
  mlir::Value neg(mlir::Value a) { return map(Function::Neg, {a}); }
  mlir::Value exp2(mlir::Value a) { return map(Function::Exp2, {a}); }
  /// exp(a - b), the difference taken before it is scaled to base 2: of great numbers it is exact.
  mlir::Value expOfDifference(mlir::Value a, mlir::Value b);
  /// True where x factor is no more than 2^10, whatever the inputs are.
  static bool isSmall(mlir::Value x, mlir::Value factor);
  /// exp(factor (score - peak)), of a row whose pairs have that peak in common. `inRange`: both are small (isSmall);
  /// then in one fma: what peak factor is rounded by divides out with the row's sum. From 2^27 on it would leave f32.
  mlir::Value expBelowPeak(mlir::Value score, mlir::Value peak, mlir::Value factor, bool inRange);
  /// 2^(score scale - product), in one fma.
  mlir::Value exp2Below(mlir::Value score, mlir::Value product, mlir::Value scale);
  /// A sink among pairs with weights: exp(c) as a score and a weight, a power of two, that share a great c between
  /// them. So neither great scores nor great weights of the pairs are out of reach of it.
  std::pair<mlir::Value, mlir::Value> weightedSink(mlir::Value c);
  /// value = x factor, with a positive factor that consists of constants and sizes of dims; null where it has none.
  static std::pair<mlir::Value, mlir::Value> uniformFactor(mlir::Value value);
  /// Computes here what such a factor is.
  mlir::Value copyOfUniform(mlir::Value factor);
  mlir::Value select(mlir::Value c, mlir::Value a, mlir::Value b) { return map(Function::Select, {c, a, b}); }

  /// The values that a chain of `joiner` joins, each once: the conditions of an `and`, the factors of a product.
  static std::vector<mlir::Value> parts(mlir::Value value, Function joiner);

  mlir::OpBuilder &builder;
  mlir::Location loc;
  Ints ints;
};

}  // namespace weft
