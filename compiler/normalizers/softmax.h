// The softmax, and what is a softmax but for its sink.
#pragma once

#include "compiler/normalizers/normalizer.h"

namespace weft {

class Softmax : public Normalizer {
 public:
  void forward(KernelBuilder &k, const QueryTile &at) const override;
  void delta(KernelBuilder &k, const QueryTile &at) const override;
  PairDerivative derivative(const PairTerms &pair) const override;
  mlir::Value sinkCotangent(const PairTerms &row, mlir::Value c) const override;

 protected:
  /// An extra logit in the denominator; `i` is the query.
  virtual bool hasSink(mlir::ModuleOp module) const;
  virtual mlir::Value sink(KernelBuilder &k, const QueryTile &at, mlir::Value i) const;

 private:
  /// A score's factor that all pairs have in common (ScalarBuilder::uniformFactor), where exp takes it along with that
  /// of base 2: peaks are then those of scores without it. Null where there is none, or where a sink or another set
  /// of keys has to be compared with the scores.
  mlir::Value scoreFactor(mlir::ModuleOp module, mlir::Value score) const;
};

/// Rows of a softmax: `peak` and `scale`, with a kept pair's e = exp(factor (x - peak)) scale for a score of x factor;
/// `delta`, do . o minus the cotangent of the log-sum-exp; with weights `shift`, the power of two that a row multiplies
/// them by.
inline constexpr RowState softmaxRows[] = {{"peak", __builtin_inff()},
                                           {"scale"},
                                           {"delta", 0, RowState::Source::Delta},
                                           {"shift", 1, RowState::Source::Forward, true}};

}  // namespace weft
