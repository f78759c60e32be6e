// Derives the pairwise program of the backward pass, in reverse mode, from `@forward`.
//
// Before: weft.pairwise @forward (and @sink). After: also @backward (and @sink_backward).
// With o = sum g p v and the cotangent do, dg = p do.v. The cotangents of score, weight and sink are the normaliser's:
// its file in compiler/normalizers has the formulas.
// Test: differentiate.mlir
#include <limits>
#include <numbers>

#include "compiler/kernel_image.h"
#include "compiler/normalizers/normalizer.h"
#include "compiler/passes.h"
#include "compiler/transforms/scalar_builder.h"
#include "compiler/transforms/signature.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/STLExtras.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/IRMapping.h"

namespace weft {

#define GEN_PASS_DEF_DIFFERENTIATE
#include "compiler/Passes.h.inc"

namespace {

using mlir::Value;

/// The cotangents of a function's arguments, given that of its result `y`. A null entry is zero.
/// At kinks the rule is PyTorch's.
llvm::SmallVector<Value, 3> derivative(ScalarBuilder &s, Function function, mlir::ValueRange x, Value y, Value dy) {
  Value zero = s.constant(0);
  auto when = [&](Value condition, Value value) { return s.select(condition, value, zero); };
  auto compare = [&](Function f, Value a, Value b) { return s.map(f, {a, b}); };
  switch (function) {
    case Function::Neg: return {s.neg(dy)};
    case Function::Add: return {dy, dy};
    case Function::Sub: return {dy, s.neg(dy)};
    case Function::Mul: return {s.mul(dy, x[1]), s.mul(dy, x[0])};
    case Function::Div: {
      // What many pairs are divided by has one reciprocal.
      constexpr double most = std::numeric_limits<float>::max();
      Value inverse = s.map(Function::Clamp, {s.div(s.constant(1), x[1]), s.constant(-most), s.constant(most)});
      Value quotient = s.mul(dy, inverse);
      return {quotient, s.neg(s.mul(quotient, y))};
    }
    case Function::Mod: {
      // y = x0 - x1 floor(x0 / x1)
      Value turns = s.map(Function::ToFloat, {s.map(Function::Round, {s.div(s.sub(x[0], y), x[1])})});
      return {dy, s.neg(s.mul(dy, turns))};
    }
    case Function::Min:
    case Function::Max: {
      // Equal arguments share the cotangent.
      Function first = function == Function::Min ? Function::Lt : Function::Gt;
      Value half = s.mul(dy, s.constant(0.5));
      Value equal = compare(Function::Eq, x[0], x[1]);
      Value a = s.select(equal, half, when(compare(first, x[0], x[1]), dy));
      Value b = s.select(equal, half, when(compare(first, x[1], x[0]), dy));
      return {a, b};
    }
    case Function::Clamp: {
      Value below = compare(Function::Lt, x[0], x[1]);
      Value above = compare(Function::Gt, x[0], x[2]);
      Value outside = s.map(Function::Or, {below, above});
      // Of equal bounds the lower one is none; of bounds the wrong way round the upper one is the value.
      Value ordered = compare(Function::Lt, x[1], x[2]);
      Value high = s.map(Function::Or, {above, compare(Function::Lt, x[2], x[1])});
      return {s.select(outside, zero, dy), when(s.map(Function::And, {below, ordered}), dy), when(high, dy)};
    }
    case Function::Abs: {
      Value negative = when(compare(Function::Lt, x[0], zero), s.neg(dy));
      return {s.select(compare(Function::Gt, x[0], zero), dy, negative)};
    }
    case Function::Exp: return {s.mul(dy, y)};
    case Function::Exp2: return {s.mul(dy, s.mul(y, s.constant(std::numbers::ln2)))};
    case Function::Log: return {s.div(dy, x[0])};
    case Function::Log2: return {s.mul(s.div(dy, x[0]), s.constant(std::numbers::log2e))};
    case Function::Log1p: return {s.div(dy, s.add(x[0], s.constant(1)))};
    case Function::Sqrt: return {s.div(s.mul(dy, s.constant(0.5)), y)};
    case Function::Rsqrt: return {s.mul(s.mul(dy, s.constant(-0.5)), s.div(y, x[0]))};
    case Function::Sin: return {s.mul(dy, s.map(Function::Cos, {x[0]}))};
    case Function::Cos: return {s.neg(s.mul(dy, s.map(Function::Sin, {x[0]})))};
    case Function::Tanh: return {s.mul(dy, s.sub(s.constant(1), s.mul(y, y)))};
    case Function::Erf: {
      Value bell = s.map(Function::Exp, {s.neg(s.mul(x[0], x[0]))});
      return {s.mul(dy, s.mul(bell, s.constant(2 * std::numbers::inv_sqrtpi)))};
    }
    case Function::Sigmoid: return {s.mul(dy, s.mul(y, s.sub(s.constant(1), y)))};
    case Function::Relu: return {when(compare(Function::Gt, x[0], zero), dy)};
    case Function::Softplus: return {s.mul(dy, s.map(Function::Sigmoid, {x[0]}))};
    case Function::Pow: {
      Value power = s.map(Function::Pow, {x[0], s.sub(x[1], s.constant(1))});
      Value base = s.select(compare(Function::Eq, x[1], zero), zero, s.mul(x[1], power));
      Value logarithm = s.mul(y, s.map(Function::Log, {x[0]}));
      Value exponent = s.select(compare(Function::Eq, x[0], zero), zero, logarithm);
      return {s.mul(dy, base), s.mul(dy, exponent)};
    }
    case Function::Triangle: {
      // 4 |f - 1/2| - 1 with f = x - floor(x): slope -4 on (0, 1/2), 4 on (1/2, 1), 0 at f = 1/2.
      Value f = s.sub(x[0], mlir::math::FloorOp::create(s.builder, s.loc, x[0]));
      Value half = s.constant(0.5);
      Value slope = s.select(compare(Function::Lt, f, half), s.constant(-4),
                             s.select(compare(Function::Gt, f, half), s.constant(4), zero));
      return {s.mul(dy, slope)};
    }
    case Function::Select: return {Value(), when(x[0], dy), s.select(x[0], zero, dy)};
    case Function::FloorDiv:
    case Function::BitAnd:
    case Function::BitOr:
    case Function::BitXor:
    case Function::ShiftLeft:
    case Function::ShiftRight:
    case Function::Floor:
    case Function::Ceil:
    case Function::Round:
    case Function::Lt:
    case Function::Le:
    case Function::Gt:
    case Function::Ge:
    case Function::Eq:
    case Function::Ne:
    case Function::And:
    case Function::Or:
    case Function::Not:
    case Function::ToFloat: return {Value(), Value(), Value()};
  }
  return {};
}

/// Copies a pairwise program and walks it backwards.
class Reverse {
 public:
  Reverse(mlir::ModuleOp module, dialect::PairwiseOp source, const std::string &name)
      : builder(module.getContext()), scalar(builder, source.getLoc()), module(module) {
    builder.setInsertionPointToEnd(module.getBody());
    auto target = dialect::PairwiseOp::create(builder, source.getLoc(), name);
    mlir::Block *block = builder.createBlock(&target.getBody());
    mlir::IRMapping mapping;
    for (mlir::BlockArgument argument : source.getBody().getArguments())
      mapping.map(argument, block->addArgument(argument.getType(), argument.getLoc()));
    for (mlir::Operation &op : source.getBody().front()) {
      if (auto yield = mlir::dyn_cast<dialect::YieldOp>(op)) {
        for (auto [attr, value] : llvm::zip(yield.getNames(), yield.getValues()))
          results[mlir::cast<mlir::StringAttr>(attr).getValue()] = mapping.lookup(value);
      } else {
        recomputed.push_back(builder.clone(op, mapping));
        // Of the operands it is known by now: no recursion.
        for (Value result : recomputed.back()->getResults()) reaches(result);
      }
    }
  }

  mlir::OpBuilder builder;
  ScalarBuilder scalar;
  mlir::ModuleOp module;
  llvm::StringMap<Value> results;

  Value row(const char *name) {
    return dialect::RowOp::create(builder, scalar.loc, dialect::realType(builder.getContext()), name);
  }

  void seed(Value value, Value cotangent) { addTo(value, cotangent); }

  /// The cotangent of a product is `cotangent` times `shift`, and `whole` is that times the product: what the argument
  /// of a factor exp(x) gets, also where the exponential is as large as the cotangent is small.
  void seedProduct(Value product, Value cotangent, Value shift, Value whole) {
    struct Factor {
      Value value, cotangent, whole;
    };
    std::vector<Factor> factors{{product, cotangent, whole}};
    for (size_t at = 0; at < factors.size(); ++at) {
      const Factor own = factors[at];
      if (!reaches(own.value)) continue;
      auto map = own.value.getDefiningOp<dialect::MapOp>();
      const auto function = map ? std::optional(map.function()) : std::nullopt;
      // Products of shared products would grow without end.
      const bool open = factors.size() < 16;
      if (function == Function::Mul && open) {
        Value a = map.getArgs()[0], b = map.getArgs()[1];
        factors.insert(factors.end(),
                       {{a, scalar.mul(own.cotangent, b), own.whole}, {b, scalar.mul(own.cotangent, a), own.whole}});
      } else if (function == Function::Select && open) {
        Value chosen = map.getArgs()[0], zero = scalar.constant(0);
        auto when = [&](Value value) { return scalar.select(chosen, value, zero); };
        auto otherwise = [&](Value value) { return scalar.select(chosen, zero, value); };
        factors.insert(factors.end(), {{map.getArgs()[1], when(own.cotangent), when(own.whole)},
                                       {map.getArgs()[2], otherwise(own.cotangent), otherwise(own.whole)}});
      } else if (function == Function::Exp) {
        addTo(map.getArgs()[0], own.whole);
      } else if (function == Function::Exp2) {
        addTo(map.getArgs()[0], scalar.mul(own.whole, scalar.constant(std::numbers::ln2)));
      } else {
        addTo(own.value, scalar.mul(own.cotangent, shift));
      }
    }
  }

  /// Pairs outside `kept`, where it is given, pass nothing on, whatever the values they have there.
  void sweep(Value kept = {}) {
    for (mlir::Operation *op : llvm::reverse(recomputed)) {
      if (op->getNumResults() != 1) continue;
      auto found = cotangents.find(op->getResult(0));
      if (found == cotangents.end()) continue;
      Value dy = found->second;
      scalar.loc = op->getLoc();
      if (auto map = mlir::dyn_cast<dialect::MapOp>(op)) {
        auto parts = derivative(scalar, map.function(), map.getArgs(), map.getResult(), dy);
        for (auto [arg, part] : llvm::zip(map.getArgs(), parts))
          if (part && reaches(arg)) addTo(arg, part);
        continue;
      }
      if (kept) dy = scalar.select(kept, dy, scalar.constant(0));
      if (auto read = mlir::dyn_cast<dialect::ReadOp>(op))
        dialect::AccumulateOp::create(builder, scalar.loc, read.getInput(), read.getIndices(), dy);
      else if (auto dot = mlir::dyn_cast<dialect::DotOp>(op))
        dialect::CotangentOp::create(builder, scalar.loc, dot.getQuery(), dot.getKey(), dy);
    }
  }

  void finish(llvm::ArrayRef<llvm::StringRef> names, mlir::ValueRange values) {
    dialect::YieldOp::create(builder, scalar.loc, builder.getStrArrayAttr(names), values);
    // What only parts without a gradient needed is dead now.
    mlir::Block &block = *builder.getInsertionBlock();
    for (mlir::Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
      if (mlir::isOpTriviallyDead(&op)) op.erase();
  }

 private:
  std::vector<mlir::Operation *> recomputed;
  llvm::DenseMap<Value, Value> cotangents;
  llvm::DenseMap<Value, bool> reachable;

  /// True where a float input stands below `value`: only there a cotangent is worth computing.
  bool reaches(Value value) {
    if (!dialect::isReal(value.getType())) return false;
    mlir::Operation *op = value.getDefiningOp();
    if (!op) return false;
    if (mlir::isa<dialect::ReadOp, dialect::DotOp>(op)) return true;
    if (!mlir::isa<dialect::MapOp>(op)) return false;
    auto [entry, fresh] = reachable.try_emplace(value, false);
    if (!fresh) return entry->second;
    bool any = false;
    for (Value arg : op->getOperands()) any |= reaches(arg);
    return reachable[value] = any;
  }

  void addTo(Value value, Value cotangent) {
    if (!reaches(value)) return;
    auto [entry, fresh] = cotangents.try_emplace(value, cotangent);
    if (!fresh) entry->second = scalar.add(entry->second, cotangent);
  }
};

}  // namespace

/// Derives @backward of the pairs of one set of keys.
static void differentiateSet(mlir::ModuleOp module, const KeySetDescription &set) {
  auto forward = module.lookupSymbol<dialect::PairwiseOp>(ofKeys("forward", set.dim));

  Reverse reverse(module, forward, ofKeys("backward", set.dim));
  ScalarBuilder &s = reverse.scalar;
  Value one = s.constant(1), zero = s.constant(0);
  auto part = [&](const char *name, Value otherwise) {
    auto found = reverse.results.find(name);
    return found == reverse.results.end() ? otherwise : found->second;
  };
  Value mask = part("mask", Value()), score = part("score", Value());
  Value weight = part("weight", Value()), counts = part("counts", mask);
  Value gate = part("gate", one), dropout = part("dropout", one);
  Value dov = dialect::DotOp::create(reverse.builder, s.loc, dialect::realType(module.getContext()), "do", set.values);
  Value dropped = s.mul(dov, dropout);

  const PairTerms terms{
      s, score, weight ? weight : one, s.mul(dropped, gate), isWeighted(module), [&](const char *name) {
        return reverse.row(name);
      }};
  auto [e, p, slope, dp, shift] = normalizerOf(module).derivative(terms);
  if (!p) p = s.mul(terms.weight, e);
  if (weight) {
    // A weight of zero is exact even where e overflows.
    p = s.select(counts, p, zero);
    reverse.seedProduct(weight, s.mul(e, dp), shift ? shift : one, s.mul(p, dp));
    slope = s.select(counts, slope, zero);
  }
  reverse.seed(score, slope);
  if (reverse.results.count("gate")) reverse.seed(gate, s.mul(p, dropped));
  Value output = s.mul(s.mul(p, gate), dropout);
  reverse.sweep(mask);
  reverse.finish({"value"}, {s.select(counts, output, zero)});
}

static void differentiate(mlir::ModuleOp module) {
  for (const KeySetDescription &set : describedSets(module)) differentiateSet(module, set);
  if (auto sink = module.lookupSymbol<dialect::PairwiseOp>("sink")) {
    Reverse reverse(module, sink, "sink_backward");
    Value c = reverse.results["sink"];
    const PairTerms terms{
        reverse.scalar, {}, {}, {}, isWeighted(module), [&](const char *name) { return reverse.row(name); }};
    reverse.seed(c, normalizerOf(module).sinkCotangent(terms, c));
    reverse.sweep();
    reverse.finish({}, {});
  }
}

namespace {

struct Differentiate : impl::DifferentiateBase<Differentiate> {
  void runOnOperation() override { differentiate(getOperation()); }
};

}  // namespace
}  // namespace weft
