// softmax1, "softmax off by one" (Miller 2023): p = m w exp(s) / (1 + sum of m w exp(s)). A row may attend to nothing.
//
// A softmax with a sink of 0 for every head; so it takes no sink of the variant's own.
#include "compiler/normalizers/softmax.h"

namespace weft {

extern constexpr NormalizerFacts softmax1Facts{
    .name = "softmax1", .logSumExp = true, .delta = true, .rows = softmaxRows};

namespace {

class Softmax1 : public Softmax {
 protected:
  bool hasSink(mlir::ModuleOp) const override { return true; }
  mlir::Value sink(KernelBuilder &k, const QueryTile &, mlir::Value) const override { return k.s.constant(0); }
};

}  // namespace

const Normalizer &softmax1Normalizer() {
  static const Softmax1 softmax1;
  return softmax1;
}

}  // namespace weft
