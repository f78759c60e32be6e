// Normalisers whose probability hangs on its own pair alone: sigmoid, none.
#pragma once

#include "compiler/normalizers/normalizer.h"

namespace weft {

class PlainNormalizer : public Normalizer {
 public:
  void forward(KernelBuilder &k, const QueryTile &at) const override;

 protected:
  /// Of a kept pair, before its weight.
  virtual mlir::Value probability(ScalarBuilder &s, mlir::Value score) const = 0;
};

}  // namespace weft
