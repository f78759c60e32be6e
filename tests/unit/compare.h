// Kernels on the CPU and on the emulator, held against the oracle.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/unit/call.h"

namespace weft::testing {

/// In f32: sums of up to 200 products of normal numbers, relative to the largest element. 200 terms at 2^-24 each in
/// the worst case is 1.2e-5.
constexpr double tolerance = 1.2e-5;

struct Comparison {
  int tile = 32;                       ///< queries and keys
  std::optional<bool> outside = {};    ///< whether an index leaves its dim, where that is asked; if so no numbers are
  std::vector<std::string> tiny = {};  ///< inputs whose gradients are below what an f32 of the kernels holds
};

/// Expects o and, where `cotangent` is not empty, each gradient to be the oracle's, on both devices.
void expectTheOracles(const std::shared_ptr<const Variant> &variant,
                      const std::map<std::string, reference::Array> &inputs, const std::vector<double> &cotangent,
                      const Comparison &comparison = {});

}  // namespace weft::testing
