// Runs a variant's kernels on plain arrays, without torch: what the unit tests share.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "compiler/compiler.h"
#include "compiler/reference.h"
#include "runtime/device.h"

namespace weft::testing {

struct Outcome {
  std::vector<uint8_t> selection;  ///< the map of chosen tiles, [B, H, query tiles, key tiles] of the last round
  std::vector<float> o, lse;
  std::map<std::string, std::vector<double>> gradients;
  bool outside = false;                 ///< the kernels noted an index outside its dim
  EmulatorReport report;                ///< of all kernels, on the PTX emulator
  std::vector<std::vector<int>> tiles;  ///< for each (b, h): 0 empty, 1 partial, 2 full, by query and key tile; none
                                        ///< where each query has keys of its own
};

struct CallOptions {
  int tileQ = 64, tileK = 64;
  BackwardForm form = BackwardForm::Fused;  ///< TwoPass, FusedKeys: where the variant has them
  int threads = 1;
  Device device = {};
  ElementType type = ElementType::F32;  ///< inputs are rounded to it first
  Schedule schedule = {};               ///< beside the tile sizes
  bool plansOnly = false;               ///< which tiles are kept, and no more
  std::string target = "host";          ///< CPU: what to compile for
};

/// Forward and, where `cotangent` is not empty, backward. Throws std::runtime_error.
Outcome call(const std::shared_ptr<const Variant> &variant, const std::map<std::string, reference::Array> &inputs,
             const std::vector<double> &cotangent, const CallOptions &options = {});

/// The value nearest to `value` in a type.
double rounded(ElementType type, double value);

/// Names of all library variants, sorted.
std::vector<std::string> libraryVariants();

/// The library variant or the only variant of a text; a failed test when it has errors.
std::shared_ptr<const Variant> variantOf(const std::string &nameOrText);

}  // namespace weft::testing
