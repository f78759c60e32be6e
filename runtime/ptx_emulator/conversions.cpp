// cvt between the number formats. Semantics: PTX ISA manual, 9.7.9.
#include "runtime/ptx_emulator/handlers.h"
#include "runtime/ptx_emulator/numbers.h"

namespace weft::ptx {
namespace {

enum Rounding { NoRounding, Rn, Rz, Rzi, Rni, Rmi, Rpi, Rna };

bool isHalf(Type type) { return type == Type::F16 || type == Type::BF16; }
bool isInteger(Type type) {
  switch (type) {
    case Type::U8:
    case Type::S8:
    case Type::U16:
    case Type::S16:
    case Type::U32:
    case Type::S32:
    case Type::U64:
    case Type::S64: return true;
    default: return false;
  }
}

float rounded(float x, int how) {
  switch (how) {
    case Rni: return std::nearbyint(x);
    case Rmi: return std::floor(x);
    case Rpi: return std::ceil(x);
    default: return std::trunc(x);
  }
}

/// Out of range: the nearest. NaN: 0, but for 64 bits the least signed or half the greatest unsigned number.
uint64_t toInteger(double value, Type type) {
  const int bits = bitsOf(type);
  if (std::isnan(value)) return bits == 64 ? uint64_t{1} << 63 : 0;
  const double low = isSigned(type) ? -std::ldexp(1.0, bits - 1) : 0.0;
  const double high = std::ldexp(1.0, isSigned(type) ? bits - 1 : bits);
  const uint64_t least = isSigned(type) ? uint64_t{1} << (bits - 1) : 0;
  if (value < low) return least;
  if (value >= high) return truncated(least - 1, type);
  return truncated(isSigned(type) ? static_cast<uint64_t>(static_cast<int64_t>(value)) : static_cast<uint64_t>(value),
                   type);
}

uint64_t converted(const Instruction &in, uint64_t x) {
  if (isInteger(in.from)) {
    if (in.type == Type::F32)
      return asBits(isSigned(in.from) ? static_cast<float>(extended(x, in.from))
                                      : static_cast<float>(truncated(x, in.from)));
    return isSigned(in.from) ? static_cast<uint64_t>(extended(x, in.from)) : truncated(x, in.from);
  }
  float value = floatOf(x, in.from);
  if (in.flush && in.from == Type::F32) value = flushed(value);
  switch (in.type) {
    case Type::F32: return asBits(in.from == Type::F32 && in.variant >= Rzi ? rounded(value, in.variant) : value);
    case Type::F16: return toF16(value);
    case Type::BF16: return toBf16(value);
    case Type::TF32: return toTf32(value);
    default: return toInteger(rounded(value, in.variant), in.type);
  }
}

void cvt(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes &x = warp.read(in.operands[1][0], lanes);
  // A destination of more bits than the type is filled by its sign.
  const int bits = warp.bitsOf(in.operands[0][0]);
  assign(warp, in, lanes, [&](int lane) {
    const uint64_t value = converted(in, x[lane]);
    return truncated(isSigned(in.type) ? static_cast<uint64_t>(extended(value, in.type)) : truncated(value, in.type),
                     bits);
  });
}

/// cvt.f16x2.f32 d, a, b: a in the upper half.
void cvtPair(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes &high = warp.read(in.operands[1][0], lanes), &low = warp.read(in.operands[2][0], lanes);
  assign(warp, in, lanes, [&](int lane) {
    const float a = asFloat(high[lane]), b = asFloat(low[lane]);
    return in.type == Type::BF16x2 ? toBf16(a) << 16 | toBf16(b) : toF16(a) << 16 | toF16(b);
  });
}

/// Which roundings a conversion takes; the halves and tf32 have only the usual ones.
bool known(Type to, Type from, int rounding) {
  if (to == Type::F16x2 || to == Type::BF16x2) return from == Type::F32 && rounding == Rn;
  if (isInteger(from)) return isInteger(to) ? rounding == NoRounding : to == Type::F32 && rounding == Rn;
  if (from != Type::F32 && !isHalf(from)) return false;
  const bool integral = rounding == Rzi || rounding == Rni || rounding == Rmi || rounding == Rpi;
  if (isInteger(to)) return integral;
  if (to == Type::TF32) return from == Type::F32 && rounding == Rna;
  if (to == Type::F32) return from == Type::F32 ? integral : rounding == NoRounding;
  return isHalf(to) && from == Type::F32 && rounding == Rn;
}

}  // namespace

std::optional<Signature> decodeConversion(const Opcode &opcode, Instruction &in) {
  static const std::map<std::string, int> roundings = {{"rn", Rn},   {"rz", Rz},   {"rzi", Rzi}, {"rni", Rni},
                                                       {"rmi", Rmi}, {"rpi", Rpi}, {"rna", Rna}};
  if (opcode[0] != "cvt" || opcode.size() < 3) return {};
  size_t at = 1;
  if (auto found = roundings.find(opcode[at]); found != roundings.end()) {
    in.variant = found->second;
    ++at;
  }
  if (opcode[at] == "ftz") {
    in.flush = true;
    ++at;
  }
  if (at + 2 != opcode.size()) return {};
  in.type = typeOf(opcode[at]);
  in.from = typeOf(opcode[at + 1]);
  if (in.type == Type::None || !known(in.type, in.from, in.variant) || (in.flush && in.from != Type::F32)) return {};
  const bool pair = in.type == Type::F16x2 || in.type == Type::BF16x2;
  in.execute = pair ? cvtPair : cvt;
  if (pair) return Signature{{to(32), from(32), from(32)}};
  // Only integers have wider registers.
  return Signature{{{OperandRule::Kind::To, bitsOf(in.type), 1, 1, isInteger(in.type)},
                    {OperandRule::Kind::From, bitsOf(in.from), 1, 1, isInteger(in.from)}}};
}

}  // namespace weft::ptx
