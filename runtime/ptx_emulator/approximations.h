// Functions a GPU computes by tables: right to within what the PTX ISA manual promises, and no more.
#pragma once

#include <cstdint>

namespace weft::ptx {

enum class Approximation { Ex2, Lg2, Rcp, Rsqrt, Sqrt, Sin, Cos, Tanh };

/// The value to half a unit in the last place where `seed` is 0; else off by an error within the function's bounds that
/// depends on function, seed and operand only.
float approximated(Approximation function, float x, bool flush, uint64_t seed);
/// x / y, to 2 units in the last place.
float approximateQuotient(float x, float y, bool flush, uint64_t seed);

}  // namespace weft::ptx
