// none: p = m w s, as in linear attention.
#include "compiler/normalizers/plain.h"

namespace weft {

extern constexpr NormalizerFacts noneFacts{.name = "none", .joining = Joining::Sum};

namespace {

class None : public PlainNormalizer {
 public:
  PairDerivative derivative(const PairTerms &pair) const override {
    PairDerivative own;
    own.e = pair.score;
    own.dp = pair.dp;
    own.slope = pair.s.mul(pair.weight, own.dp);
    return own;
  }

 protected:
  mlir::Value probability(ScalarBuilder &, mlir::Value score) const override { return score; }
};

}  // namespace

const Normalizer &noneNormalizer() {
  static const None none;
  return none;
}

}  // namespace weft
