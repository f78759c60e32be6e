// Numbers of terms that a call's tensors say, as in any(n < N, ...).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "compiler/compiler.h"

namespace weft {

/// The most terms of any, all and sum.
inline constexpr int64_t mostTerms = 64;

/// Dims whose sizes are numbers of terms, each once. Where there are any, the variant is a form for many: a call
/// computes, and kernels are compiled of, the text of sourceWith. Found once for each text; thread-safe.
std::vector<std::string> termDims(const Variant &variant);
/// The variant's text with the sizes of these dims in their places. Throws std::invalid_argument for a size that
/// `sizes` lacks, or that is not from 1 to mostTerms.
std::string sourceWith(const Variant &variant, const std::map<std::string, int64_t> &sizes);

}  // namespace weft
