// The number formats of PTX in C++: conversions with each instruction's own rounding.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace weft::ptx {

inline float asFloat(uint64_t bits) {
  const uint32_t low = static_cast<uint32_t>(bits);
  float value;
  std::memcpy(&value, &low, 4);
  return value;
}
inline uint64_t asBits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}
/// .ftz: a number below the normal ones is a zero of its sign.
inline float flushed(float value) {
  return std::fpclassify(value) == FP_SUBNORMAL ? std::copysign(0.0f, value) : value;
}
inline float fromBf16(uint64_t bits) { return asFloat((bits & 0xFFFF) << 16); }
/// Nearest, ties to even; NaN stays NaN.
inline uint64_t toBf16(float value) {
  const uint64_t bits = asBits(value);
  if (std::isnan(value)) return 0x7FFF;
  return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 & 0xFFFF;
}
inline float fromF16(uint64_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
  if (exponent == 31) return asFloat(sign | 0x7F800000u | fraction << 13);
  if (exponent == 0) return (sign ? -1.0f : 1.0f) * std::ldexp(static_cast<float>(fraction), -24);
  return asFloat(sign | (exponent + 112) << 23 | fraction << 13);
}
/// Nearest, ties to even.
inline uint64_t toF16(float value) {
  const uint64_t sign = asBits(value) >> 16 & 0x8000;
  if (std::isnan(value)) return 0x7FFF;
  const float magnitude = std::fabs(value);
  if (magnitude >= 65520.0f) return sign | 0x7C00;
  if (magnitude < std::ldexp(1.0f, -14))  // denormal: a multiple of 2^-24
    return sign | static_cast<uint64_t>(std::nearbyint(std::ldexp(magnitude, 24)));
  const uint64_t bits = asBits(magnitude);
  return sign | ((bits + 0xFFF + (bits >> 13 & 1) - (112ull << 23)) >> 13 & 0x7FFF);
}
/// Nearest, ties away from zero: 10 bits of fraction are kept.
inline uint64_t toTf32(float value) {
  const uint64_t bits = asBits(value);
  if (!std::isfinite(value)) return bits & ~0x1FFFull;
  return (bits + 0x1000) & 0xFFFFE000u;
}
/// What a tensor core reads of a tf32 operand.
inline float fromTf32(uint64_t bits) { return asFloat(bits & 0xFFFFE000u); }

}  // namespace weft::ptx
