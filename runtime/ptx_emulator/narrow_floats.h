// Floating-point numbers of 8 bits in C++: e4m3 and e5m2. Semantics: PTX ISA manual, "Alternate Floating-Point Data
// Formats", and cvt's .satfinite.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "runtime/ptx_emulator/numbers.h"

namespace weft::ptx {

struct NarrowFloat {
  int fraction, bias;  ///< bits of the fraction; what is taken off the exponent
  float most;          ///< the greatest number
};
constexpr NarrowFloat e4m3{3, 7, 448}, e5m2{2, 15, 57344};
constexpr uint64_t narrowNan = 0x7F;

/// Nearest, ties to even; what is greater than all numbers is the greatest.
inline uint64_t toNarrow(float value, const NarrowFloat &format) {
  if (std::isnan(value)) return narrowNan;
  const uint64_t sign = std::signbit(value) ? 0x80 : 0;
  // Doubles have room for what is rounded up beyond a float's exponents.
  const double magnitude = std::min(std::fabs(value), format.most);
  const int least = 1 - format.bias, power = magnitude > 0 ? std::max(std::ilogb(magnitude), least) : least;
  const auto steps = static_cast<uint64_t>(std::nearbyint(std::ldexp(magnitude, format.fraction - power)));
  // Below 2^fraction steps it is subnormal; a step beyond twice as many goes to the next exponent by itself.
  return sign | ((static_cast<uint64_t>(power - least) << format.fraction) + steps);
}

inline float fromNarrow(uint64_t bits, const NarrowFloat &format) {
  const float sign = bits & 0x80 ? -1.0f : 1.0f;
  const auto field = static_cast<int>(bits >> format.fraction & (0x7F >> format.fraction));
  const auto fraction = static_cast<int>(bits & ((1u << format.fraction) - 1));
  if (format.fraction == 2 && field == 31) return sign * (fraction ? std::nanf("") : HUGE_VALF);
  if (format.fraction == 3 && (bits & 0x7F) == narrowNan) return std::nanf("");
  const int steps = field ? fraction + (1 << format.fraction) : fraction;
  return sign * std::ldexp(static_cast<float>(steps), std::max(field, 1) - format.bias - format.fraction);
}

}  // namespace weft::ptx
