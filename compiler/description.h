// What a variant says beside its inputs: for people who look at one, not for calls.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "compiler/compiler.h"

namespace weft {

struct VariantDescription {
  std::vector<std::pair<std::string, double>> constants;  ///< in the order of their declarations
  std::string normalizer;                                 ///< "softmax", ...
  double dropout = 0;                                     ///< the probability of dropping a pair
};
VariantDescription describe(const Variant &variant);

/// "8", "T", "S / 64 + 1".
std::string print(const Bound &bound);

}  // namespace weft
