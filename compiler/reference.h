// The oracle: evaluates a checked variant in double precision, pair by pair, with all gradients.
// It walks the AST by itself and shares no code with the compiler's lowering.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "compiler/compiler.h"

namespace weft::reference {

/// A dense row-major tensor of any input: floats, ints and bools all as doubles.
struct Array {
  std::vector<int64_t> shape;
  std::vector<double> values;
};

struct Result {
  Array o, lse;                            ///< [B, H, T, E], [B, H, T]
  std::map<std::string, Array> gradients;  ///< of every float input, for the cotangent given
};

/// `cotangent` is do, [B, H, T, E]; empty: no gradients.
Result evaluate(const ast::Variant &variant, const std::map<std::string, Array> &inputs,
                const std::vector<double> &cotangent);

/// What becomes of a pair of the keys of v: its masks drop it, its weight is 0, or it counts.
enum class Kept : uint8_t { Dropped, Weightless, Counts };
/// Of each pair (i, j) of one head, with every operation rounded as f32 kernels round it (no denormals), which exp,
/// tanh and their like follow to a few last digits.
std::vector<Kept> pairs(const ast::Variant &variant, const std::map<std::string, Array> &inputs, int64_t b, int64_t h);

/// True where the pair (i, j) can matter: mask holds and the weight or a derivative of it is not 0.
std::vector<bool> liveTiles(const ast::Variant &variant, const std::map<std::string, Array> &inputs, int64_t b,
                            int64_t h, int64_t tileQ, int64_t tileK);

}  // namespace weft::reference
