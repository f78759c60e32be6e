#include "runtime/ptx_emulator/approximations.h"

#include <algorithm>
#include <cmath>

#include "runtime/ptx_emulator/handlers.h"
#include "runtime/ptx_emulator/numbers.h"

namespace weft::ptx {
namespace {

/// Splitmix64: from -1 to 1.
double drawn(uint64_t seed, uint64_t function, uint64_t x, uint64_t y = 0) {
  uint64_t z = seed * 0x9E3779B97F4A7C15u ^ function << 56 ^ x << 20 ^ y * 0xD1342543DE82EF95u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return static_cast<double>(static_cast<int64_t>(z ^ z >> 31)) * 0x1p-63;
}

/// Errors of the PTX ISA manual, 9.7.3: units in the last place, parts of the value, or absolute. Over all floats an
/// H200 keeps within them but for ex2 (2.055 units) and cos (2^-20.43): there they are what was measured.
struct Bounds {
  double ulps = 0, relative = 0, absolute = 0;
};
Bounds boundsOf(Approximation function, double x) {
  switch (function) {
    case Approximation::Ex2: return {2.06};
    case Approximation::Lg2: return x > 0.5 && x < 2 ? Bounds{0, 0, 0x1p-22} : Bounds{0, 0x1p-22, 0};
    case Approximation::Rcp: return {1};
    case Approximation::Rsqrt: return {0, 0x1.1p-23};  // 2^-22.9
    case Approximation::Sqrt: return {0, 0x1p-23};
    case Approximation::Sin:
    case Approximation::Cos:  // in [-2 pi, 2 pi], and [-100 pi, 100 pi]
      return {0, 0, std::fabs(x) <= 6.2831853 ? 0x1.7dp-21 : 0x1.3bp-15};
    default: return {0, 0x1p-11};  // tanh
  }
}

/// `exact` with an error within the bounds, then rounded: half a unit of them is left to the rounding.
float disturbed(double exact, const Bounds &bounds, double draw, bool flush) {
  const double unit = std::ldexp(1.0, std::max(std::ilogb(exact), -126) - 23);
  const double room = std::max({bounds.ulps * unit, bounds.relative * std::fabs(exact), bounds.absolute}) - unit / 2;
  const float value = static_cast<float>(exact + draw * std::max(room, 0.0));
  return flush ? flushed(value) : value;
}

double exactly(Approximation function, double x) {
  switch (function) {
    case Approximation::Ex2: return std::exp2(x);
    case Approximation::Lg2: return std::log2(x);
    case Approximation::Rcp: return 1 / x;
    case Approximation::Rsqrt: return 1 / std::sqrt(x);
    case Approximation::Sqrt: return std::sqrt(x);
    case Approximation::Sin: return std::sin(x);
    case Approximation::Cos: return std::cos(x);
    default: return std::tanh(x);
  }
}

/// Values that are exact on every GPU: of zeros, infinities, NaN.
bool isSpecial(double exact, float x) { return !std::isfinite(exact) || exact == 0 || !std::isfinite(x) || x == 0; }

template <Approximation Function>
void approximate(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes &x = warp.read(in.operands[1][0], lanes);
  const uint64_t seed = warp.block.launch.seed;
  assign(warp, in, lanes, [&](int lane) { return asBits(approximated(Function, asFloat(x[lane]), in.flush, seed)); });
}

void divide(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes &x = warp.read(in.operands[1][0], lanes), &y = warp.read(in.operands[2][0], lanes);
  const uint64_t seed = warp.block.launch.seed;
  assign(warp, in, lanes,
         [&](int lane) { return asBits(approximateQuotient(asFloat(x[lane]), asFloat(y[lane]), in.flush, seed)); });
}

/// Of all divisors.
void divideFully(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes &x = warp.read(in.operands[1][0], lanes), &y = warp.read(in.operands[2][0], lanes);
  const uint64_t seed = warp.block.launch.seed;
  assign(warp, in, lanes, [&](int lane) {
    // A great divisor is scaled, and what it divides.
    const float scale = std::fabs(asFloat(y[lane])) > 0x1p126f ? 0x1p-2f : 1.0f;
    return asBits(approximateQuotient(scale * asFloat(x[lane]), scale * asFloat(y[lane]), in.flush, seed));
  });
}

}  // namespace

float approximated(Approximation function, float x, bool flush, uint64_t seed) {
  if (flush) x = flushed(x);
  const double exact = exactly(function, x);
  if (std::isnan(exact)) return asFloat(0x7FFFFFFF);
  const float nearest = static_cast<float>(exact);
  if (!seed || isSpecial(exact, x)) return flush ? flushed(nearest) : nearest;
  float value = disturbed(exact, boundsOf(function, x), drawn(seed, static_cast<uint64_t>(function), asBits(x)), flush);
  // No sine leaves [-1, 1], nor does a hyperbolic tangent.
  if (function == Approximation::Sin || function == Approximation::Cos || function == Approximation::Tanh)
    value = std::fmin(std::fmax(value, -1.0f), 1.0f);
  return value;
}

float approximateQuotient(float x, float y, bool flush, uint64_t seed) {
  if (flush) {
    x = flushed(x);
    y = flushed(y);
  }
  // The reciprocal of such a divisor is flushed.
  if (std::isfinite(y) && std::fabs(y) > 0x1p126f)
    return std::isinf(x) || std::isnan(x) ? asFloat(0x7FFFFFFF) : std::copysign(0.0f, x * y);
  const double exact = static_cast<double>(x) / y;
  if (std::isnan(exact)) return asFloat(0x7FFFFFFF);
  const float nearest = static_cast<float>(exact);
  if (!seed || isSpecial(exact, x) || !std::isfinite(y)) return flush ? flushed(nearest) : nearest;
  return disturbed(exact, {2}, drawn(seed, 63, asBits(x), asBits(y)), flush);
}

std::optional<Signature> decodeApproximation(const Opcode &opcode, Instruction &in) {
  static const std::map<std::string, Handler> functions = {{"ex2", approximate<Approximation::Ex2>},
                                                           {"lg2", approximate<Approximation::Lg2>},
                                                           {"rcp", approximate<Approximation::Rcp>},
                                                           {"rsqrt", approximate<Approximation::Rsqrt>},
                                                           {"sqrt", approximate<Approximation::Sqrt>},
                                                           {"sin", approximate<Approximation::Sin>},
                                                           {"cos", approximate<Approximation::Cos>},
                                                           {"tanh", approximate<Approximation::Tanh>},
                                                           {"div", divide}};
  if (opcode.text == "div.full.f32" || opcode.text == "div.full.ftz.f32") {
    in.flush = opcode.size() == 4;
    in.type = Type::F32;
    in.execute = divideFully;
    return Signature{{to(32), from(32), from(32)}};
  }
  auto found = functions.find(opcode[0]);
  if (found == functions.end() || opcode.size() < 3 || opcode[1] != "approx") return {};
  in.flush = opcode.size() == 4 && opcode[2] == "ftz" && opcode[0] != "tanh";
  if (opcode.size() != (in.flush ? 4u : 3u) || typeOf(opcode.words.back()) != Type::F32) return {};
  in.type = Type::F32;
  in.execute = found->second;
  Signature signature{{to(32), from(32)}};
  if (opcode[0] == "div") signature.operands.push_back(from(32));
  return signature;
}

}  // namespace weft::ptx
