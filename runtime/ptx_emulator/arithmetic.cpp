// Integers, bits, comparisons and correctly rounded floats. Every operation has a result for every input: where the PTX
// ISA manual (chapter 9.7) leaves one open, such as a division by zero, it is the one written here.
#include <algorithm>
#include <bit>
#include <cstring>

#include "runtime/ptx_emulator/handlers.h"
#include "runtime/ptx_emulator/numbers.h"

namespace weft::ptx {
namespace {

// ---- the templates are the operations ---------------------------------------------------------

uint64_t flushed(uint64_t x, const Instruction &in) { return in.flush ? asBits(ptx::flushed(asFloat(x))) : x; }

template <class Op>
void unary(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes &x = warp.read(in.operands[1][0], lanes);
  assign(warp, in, lanes, [&](int lane) { return flushed(Op::apply(in, flushed(x[lane], in)), in); });
}
template <class Op>
void binary(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes &x = warp.read(in.operands[1][0], lanes), &y = warp.read(in.operands[2][0], lanes);
  assign(warp, in, lanes,
         [&](int lane) { return flushed(Op::apply(in, flushed(x[lane], in), flushed(y[lane], in)), in); });
}
template <class Op>
void ternary(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes &x = warp.read(in.operands[1][0], lanes), &y = warp.read(in.operands[2][0], lanes),
              &z = warp.read(in.operands[3][0], lanes);
  assign(warp, in, lanes, [&](int lane) {
    return flushed(Op::apply(in, flushed(x[lane], in), flushed(y[lane], in), flushed(z[lane], in)), in);
  });
}

/// A NaN has no sign and no payload on a GPU.
uint64_t result(float value) { return std::isnan(value) ? 0x7FFFFFFF : asBits(value); }

struct Add {
  static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) {
    return isFloat(in.type) ? result(asFloat(x) + asFloat(y)) : truncated(x + y, in.type);
  }
};
struct Sub {
  static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) {
    return isFloat(in.type) ? result(asFloat(x) - asFloat(y)) : truncated(x - y, in.type);
  }
};
struct Mul {
  static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) {
    return isFloat(in.type) ? result(asFloat(x) * asFloat(y)) : truncated(x * y, in.type);
  }
};
struct MulHi {
  static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) {
    if (isSigned(in.type))
      return truncated(static_cast<uint64_t>((static_cast<__int128>(extended(x, in.type)) * extended(y, in.type)) >>
                                             bitsOf(in.type)),
                       in.type);
    return truncated(static_cast<uint64_t>((static_cast<unsigned __int128>(x) * y) >> bitsOf(in.type)), in.type);
  }
};
/// Of 16 or 32 bits.
struct MulWide {
  static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) {
    const uint64_t product =
        isSigned(in.type) ? static_cast<uint64_t>(extended(x, in.type) * extended(y, in.type)) : x * y;
    return truncated(product, 2 * bitsOf(in.type));
  }
};
struct Mad {
  static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y, uint64_t z) {
    return truncated(x * y + z, in.type);
  }
};
struct MadWide {
  static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y, uint64_t z) {
    return truncated(MulWide::apply(in, x, y) + z, 2 * bitsOf(in.type));
  }
};
struct Fma {
  static uint64_t apply(const Instruction &, uint64_t x, uint64_t y, uint64_t z) {
    return result(std::fmaf(asFloat(x), asFloat(y), asFloat(z)));
  }
};
/// x / 0 has all bits set; the least number / -1 is itself.
struct Div {
  static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) {
    if (isFloat(in.type)) return result(asFloat(x) / asFloat(y));
    if (y == 0) return truncated(~uint64_t{0}, in.type);
    if (!isSigned(in.type)) return x / y;
    const int64_t by = extended(y, in.type);
    return truncated(by == -1 ? 0 - x : static_cast<uint64_t>(extended(x, in.type) / by), in.type);
  }
};
/// x rem 0 is x.
struct Rem {
  static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) {
    if (y == 0) return x;
    if (!isSigned(in.type)) return x % y;
    const int64_t by = extended(y, in.type);
    return by == -1 ? 0 : truncated(static_cast<uint64_t>(extended(x, in.type) % by), in.type);
  }
};
template <bool Greater>
struct ExtremeNaN {
  static uint64_t apply(const Instruction &, uint64_t x, uint64_t y) {
    const float a = asFloat(x), b = asFloat(y);
    return std::isnan(a) || std::isnan(b) ? 0x7FFFFFFF : asBits(Greater ? std::fmax(a, b) : std::fmin(a, b));
  }
};
template <bool Greater>
struct Extreme {
  static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) {
    if (isFloat(in.type))
      return result(Greater ? std::fmax(asFloat(x), asFloat(y)) : std::fmin(asFloat(x), asFloat(y)));
    const bool less = isSigned(in.type) ? extended(x, in.type) < extended(y, in.type) : x < y;
    return less == Greater ? y : x;
  }
};
/// At least 0.
template <bool Greater>
struct ExtremeRelu {
  static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) {
    const uint64_t own = Extreme<Greater>::apply(in, x, y);
    return extended(own, in.type) < 0 ? 0 : own;
  }
};
struct And {
  static uint64_t apply(const Instruction &, uint64_t x, uint64_t y) { return x & y; }
};
struct Or {
  static uint64_t apply(const Instruction &, uint64_t x, uint64_t y) { return x | y; }
};
struct Xor {
  static uint64_t apply(const Instruction &, uint64_t x, uint64_t y) { return x ^ y; }
};
struct Not {
  static uint64_t apply(const Instruction &in, uint64_t x) { return truncated(~x, in.type); }
};
struct Popc {
  static uint64_t apply(const Instruction &, uint64_t x) { return static_cast<uint64_t>(std::popcount(x)); }
};
struct Clz {
  static uint64_t apply(const Instruction &in, uint64_t x) {
    return static_cast<uint64_t>(std::countl_zero(truncated(x, in.type)) - (64 - bitsOf(in.type)));
  }
};
/// Shifts by more than all bits are shifts by all.
struct Shl {
  static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) {
    return y >= static_cast<uint64_t>(bitsOf(in.type)) ? 0 : truncated(x << y, in.type);
  }
};
struct Shr {
  static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) {
    if (isSigned(in.type))
      return truncated(static_cast<uint64_t>(extended(x, in.type) >> std::min<uint64_t>(y, 63)), in.type);
    return y >= 64 ? 0 : x >> y;
  }
};
struct Neg {
  static uint64_t apply(const Instruction &in, uint64_t x) {
    return isFloat(in.type) ? (x ^ 0x80000000u) : truncated(0 - x, in.type);
  }
};
struct Abs {
  static uint64_t apply(const Instruction &in, uint64_t x) {
    if (isFloat(in.type)) return x & 0x7FFFFFFF;
    return extended(x, in.type) < 0 ? truncated(0 - x, in.type) : x;
  }
};
struct Rcp {
  static uint64_t apply(const Instruction &, uint64_t x) { return result(1.0f / asFloat(x)); }
};
struct Sqrt {
  static uint64_t apply(const Instruction &, uint64_t x) { return result(std::sqrt(asFloat(x))); }
};
/// The sign of the first, the rest of the second.
struct CopySign {
  static uint64_t apply(const Instruction &, uint64_t x, uint64_t y) { return (x & 0x80000000u) | (y & 0x7FFFFFFF); }
};
/// `length` bits from `start` on; where they reach past the last bit, or the type is signed, filled up by their sign.
struct Bfe {
  static uint64_t apply(const Instruction &in, uint64_t x, uint64_t start, uint64_t length) {
    const uint64_t bits = static_cast<uint64_t>(bitsOf(in.type)), first = start & 255, count = length & 255;
    const bool sign = isSigned(in.type) && count && (x >> std::min(first + count - 1, bits - 1) & 1);
    const uint64_t kept = first >= bits ? 0 : std::min(count, bits - first);
    uint64_t field = kept ? truncated(x >> first, static_cast<int>(kept)) : 0;
    if (sign && kept < 64) field |= ~uint64_t{0} << kept;
    return truncated(field, in.type);
  }
};
struct Prmt {
  static uint64_t apply(const Instruction &, uint64_t x, uint64_t y, uint64_t selector) {
    const uint64_t bytes = x | y << 32;
    uint64_t all = 0;
    for (int at = 0; at < 4; ++at) {
      const uint64_t choice = selector >> 4 * at & 15;
      uint64_t byte = bytes >> 8 * (choice & 7) & 255;
      if (choice & 8) byte = byte & 128 ? 255 : 0;
      all |= byte << 8 * at;
    }
    return all;
  }
};
struct Select {
  static uint64_t apply(const Instruction &, uint64_t x, uint64_t y, uint64_t p) { return p ? x : y; }
};

// ---- comparisons -------------------------------------------------------------------------------

enum Comparison { Eq, Ne, Lt, Le, Gt, Ge, Lo, Ls, Hi, Hs, Equ, Neu, Ltu, Leu, Gtu, Geu, Num, Nan };
const std::map<std::string, int> comparisons = {{"eq", Eq},   {"ne", Ne},   {"lt", Lt},   {"le", Le},   {"gt", Gt},
                                                {"ge", Ge},   {"lo", Lo},   {"ls", Ls},   {"hi", Hi},   {"hs", Hs},
                                                {"equ", Equ}, {"neu", Neu}, {"ltu", Ltu}, {"leu", Leu}, {"gtu", Gtu},
                                                {"geu", Geu}, {"num", Num}, {"nan", Nan}};

template <class T>
bool compare(int how, T x, T y) {
  switch (how) {
    case Eq:
    case Equ: return x == y;
    case Ne:
    case Neu: return x != y;
    case Lt:
    case Ltu:
    case Lo: return x < y;
    case Le:
    case Leu:
    case Ls: return x <= y;
    case Gt:
    case Gtu:
    case Hi: return x > y;
    default: return x >= y;
  }
}
void setp(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes &x = warp.read(in.operands[1][0], lanes), &y = warp.read(in.operands[2][0], lanes);
  assign(warp, in, lanes, [&](int lane) -> uint64_t {
    if (isFloat(in.type)) {
      const float a = asFloat(flushed(x[lane], in)), b = asFloat(flushed(y[lane], in));
      const bool unordered = std::isnan(a) || std::isnan(b);
      if (in.variant == Num || in.variant == Nan) return unordered == (in.variant == Nan);
      if (unordered) return in.variant >= Equ;
      return compare(in.variant, a, b);
    }
    if (isSigned(in.type)) return compare(in.variant, extended(x[lane], in.type), extended(y[lane], in.type));
    return compare(in.variant, x[lane], y[lane]);
  });
}

// ---- the table ---------------------------------------------------------------------------------

/// The kinds of type an operation takes (i integer, f f32, b bits, p predicate), and its operands: t its type, w twice
/// as wide, n 32 bits, p a predicate; the result first.
struct Simple {
  Handler handler;
  const char *kinds, *operands;
};
const std::map<std::string, Simple> simple = {{"add", {binary<Add>, "if", "ttt"}},
                                              {"sub", {binary<Sub>, "if", "ttt"}},
                                              {"mul.lo", {binary<Mul>, "i", "ttt"}},
                                              {"mul", {binary<Mul>, "f", "ttt"}},
                                              {"mul.hi", {binary<MulHi>, "i", "ttt"}},
                                              {"mul.wide", {binary<MulWide>, "s", "wtt"}},
                                              {"mad.lo", {ternary<Mad>, "i", "tttt"}},
                                              {"mad.wide", {ternary<MadWide>, "s", "wttw"}},
                                              {"fma", {ternary<Fma>, "f", "tttt"}},
                                              {"div", {binary<Div>, "if", "ttt"}},
                                              {"rem", {binary<Rem>, "i", "ttt"}},
                                              {"max", {binary<Extreme<true>>, "if", "ttt"}},
                                              {"min", {binary<Extreme<false>>, "if", "ttt"}},
                                              {"max.NaN", {binary<ExtremeNaN<true>>, "f", "ttt"}},
                                              {"min.NaN", {binary<ExtremeNaN<false>>, "f", "ttt"}},
                                              {"max.relu", {binary<ExtremeRelu<true>>, "S", "ttt"}},
                                              {"min.relu", {binary<ExtremeRelu<false>>, "S", "ttt"}},
                                              {"and", {binary<And>, "bp", "ttt"}},
                                              {"or", {binary<Or>, "bp", "ttt"}},
                                              {"xor", {binary<Xor>, "bp", "ttt"}},
                                              {"not", {unary<Not>, "bp", "tt"}},
                                              {"shl", {binary<Shl>, "b", "ttn"}},
                                              {"shr", {binary<Shr>, "ib", "ttn"}},
                                              {"neg", {unary<Neg>, "if", "tt"}},
                                              {"abs", {unary<Abs>, "if", "tt"}},
                                              {"rcp", {unary<Rcp>, "f", "tt"}},
                                              {"sqrt", {unary<Sqrt>, "f", "tt"}},
                                              {"copysign", {binary<CopySign>, "f", "ttt"}},
                                              {"bfe", {ternary<Bfe>, "I", "ttnn"}},
                                              {"prmt", {ternary<Prmt>, "W", "tttt"}},
                                              {"selp", {ternary<Select>, "ibf", "tttp"}},
                                              {"popc", {unary<Popc>, "B", "nt"}},
                                              {"clz", {unary<Clz>, "B", "nt"}}};

/// i, f, b, p as above; s: integers that can be twice as wide; I, B: of 32 or 64 bits; S, W: 32 bits.
bool takes(const char *kinds, Type type) {
  auto any = [&](const char *own) { return std::strpbrk(kinds, own) != nullptr; };
  switch (type) {
    case Type::Pred: return any("p");
    case Type::F32: return any("f");
    case Type::U16:
    case Type::S16: return any("is");
    case Type::U32: return any("isI");
    case Type::S32: return any("isIS");
    case Type::U64:
    case Type::S64: return any("iI");
    case Type::B16: return any("b");
    case Type::B32: return any("bBW");
    case Type::B64: return any("bB");
    default: return false;
  }
}

}  // namespace

std::optional<Signature> decodeArithmetic(const Opcode &opcode, Instruction &in) {
  if (opcode.size() < 2) return {};
  in.type = typeOf(opcode.words.back());
  const int bits = bitsOf(in.type);
  if (opcode[0] == "setp") {
    auto found = comparisons.find(opcode[1]);
    in.flush = opcode.size() == 4 && opcode[2] == "ftz" && isFloat(in.type);
    if (found == comparisons.end() || opcode.size() != (in.flush ? 4u : 3u) || !takes("ifb", in.type)) return {};
    // lo, ls, hi, hs are of unsigned integers, the unordered ones of floats, those of bits eq and ne.
    const int how = found->second;
    const bool unsignedOnly = how >= Lo && how <= Hs, floatOnly = how >= Equ;
    if (isFloat(in.type) ? unsignedOnly
                         : floatOnly || (unsignedOnly && isSigned(in.type)) || (takes("b", in.type) && how > Ne))
      return {};
    in.execute = setp;
    in.variant = how;
    return Signature{{to(1), from(bits), from(bits)}};
  }
  // name[.mode][.rn][.ftz].type
  std::string name = opcode[0];
  size_t at = 1;
  if (at + 1 < opcode.size() && simple.count(name + "." + opcode[at])) name += "." + opcode[at++];
  if (at + 1 < opcode.size() && opcode[at] == "rn") ++at;
  if (at + 1 < opcode.size() && opcode[at] == "ftz" && isFloat(in.type)) {
    in.flush = true;
    ++at;
  }
  // ".ftz" may stand before ".NaN".
  if (in.flush && at + 1 < opcode.size() && opcode[at] == "NaN") name += "." + opcode[at++];
  auto found = simple.find(name);
  if (found == simple.end() || at + 1 != opcode.size() || !takes(found->second.kinds, in.type)) return {};
  in.execute = found->second.handler;
  Signature signature;
  for (const char *own = found->second.operands; *own; ++own) {
    const int width = *own == 't' ? bits : *own == 'w' ? 2 * bits : *own == 'n' ? 32 : 1;
    signature.operands.push_back(own == found->second.operands ? to(width) : from(width));
  }
  return signature;
}

}  // namespace weft::ptx
