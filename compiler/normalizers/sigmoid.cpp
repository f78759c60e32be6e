// sigmoid: p = m w sigmoid(s). A row's keys do not compete.
#include "compiler/normalizers/plain.h"

namespace weft {

extern constexpr NormalizerFacts sigmoidFacts{.name = "sigmoid", .joining = Joining::Sum};

namespace {

class Sigmoid : public PlainNormalizer {
 public:
  PairDerivative derivative(const PairTerms &pair) const override {
    ScalarBuilder &s = pair.s;
    PairDerivative own;
    own.e = s.map(Function::Sigmoid, {pair.score});
    own.dp = pair.dp;
    own.slope = s.mul(pair.weight, s.mul(s.mul(own.e, s.sub(s.constant(1), own.e)), own.dp));
    return own;
  }

 protected:
  mlir::Value probability(ScalarBuilder &s, mlir::Value score) const override {
    return s.map(Function::Sigmoid, {score});
  }
};

}  // namespace

const Normalizer &sigmoidNormalizer() {
  static const Sigmoid sigmoid;
  return sigmoid;
}

}  // namespace weft
