// Variants whose numbers of terms are sizes of their inputs.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <string>

#include "compiler/terms.h"
#include "tests/unit/call.h"

namespace weft::testing {

/// The variant that is computed of these inputs: with the sizes of dims that count terms in their places.
inline std::shared_ptr<const Variant> withTerms(const std::shared_ptr<const Variant> &variant,
                                                const std::map<std::string, reference::Array> &inputs) {
  const auto dims = termDims(*variant);
  std::map<std::string, int64_t> sizes;
  for (const InputInfo &input : variant->inputs())
    for (size_t d = 0; d < input.dims.size(); ++d)
      if (std::ranges::count(dims, input.dims[d])) sizes[input.dims[d]] = inputs.at(input.name).shape[d];
  return dims.empty() ? variant : variantOf(sourceWith(*variant, sizes));
}

}  // namespace weft::testing
