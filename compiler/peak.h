// Loops of nothing but arithmetic, for what a CPU could do at most.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compiler/kernel_image.h"

namespace weft {

/// Chains of one instruction, independent of each other and enough of them to hide how long each takes: no loads, no
/// stores.
struct PeakLoop {
  std::string code;   ///< an object file
  std::string entry;  ///< void(int64_t *, int64_t begin, int64_t end, void *scratch): end - begin turns
  std::string chain;  ///< in words: "28 chains of f32 fma in 16 lanes"
  double flopsPerTurn = 0;
};

/// Bytes of an entry's scratch, aligned to 64, of each thread its own; filled with `peakFill`, a small number in every
/// type.
constexpr int64_t peakScratchBytes = 8192;
constexpr uint32_t peakFill = 0x3f003f00;

/// All that `target` ("host" or a CPU name LLVM knows) has for products of this type with sums of f32: fma in f32, and
/// for bf16 and f16 what takes them as they are (dot products of pairs, AMX tiles). Pure and thread-safe; throws
/// std::runtime_error for another type.
std::vector<PeakLoop> peakLoops(ElementType type, const std::string &target);

}  // namespace weft
