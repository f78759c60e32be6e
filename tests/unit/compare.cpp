#include "tests/unit/compare.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/inputs.h"
#include "tests/unit/terms.h"

namespace weft::testing {

void expectTheOracles(const std::shared_ptr<const Variant> &given,
                      const std::map<std::string, reference::Array> &inputs, const std::vector<double> &cotangent,
                      const Comparison &comparison) {
  const auto variant = withTerms(given, inputs);
  const auto want = reference::evaluate(variant->tree(), inputs, cotangent);
  for (const Device &device : {Device{}, Device{Device::Kind::PtxEmulator, 0}}) {
    SCOPED_TRACE(name(device));
    CallOptions options;
    options.device = device;
    options.tileQ = options.tileK = comparison.tile;
    options.threads = 2;  // what one adds to another's sums is lost
    const Outcome got = call(variant, inputs, cotangent, options);
    if (comparison.outside) EXPECT_EQ(got.outside, *comparison.outside);
    if (comparison.outside == true) continue;
    EXPECT_LT(relativeError(got.o, want.o.values), tolerance);
    if (cotangent.empty()) continue;
    for (const auto &[name, gradient] : want.gradients)
      if (std::ranges::count(comparison.tiny, name) == 0)
        EXPECT_LT(relativeError(got.gradients.at(name), gradient.values), 4 * tolerance) << name;
  }
}

}  // namespace weft::testing
