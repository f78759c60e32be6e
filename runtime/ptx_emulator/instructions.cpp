// What each PTX instruction does, and the table of opcodes. Semantics: PTX ISA manual, chapter 9.
#include <algorithm>
#include <atomic>
#include <functional>
#include <sstream>
#include <stdexcept>

#include "runtime/ptx_emulator/machine.h"
#include "runtime/ptx_emulator/numbers.h"

namespace weft::ptx {

int bitsOf(Type type) {
  switch (type) {
    case Type::None: return 0;
    case Type::Pred: return 1;
    case Type::B8: case Type::U8: case Type::S8: return 8;
    case Type::B16: case Type::U16: case Type::S16: case Type::F16: case Type::BF16: return 16;
    case Type::B64: case Type::U64: case Type::S64: case Type::F64: return 64;
    default: return 32;
  }
}

namespace {

bool isSigned(Type type) { return type == Type::S8 || type == Type::S16 || type == Type::S32 || type == Type::S64; }
bool isFloat(Type type) { return type == Type::F32; }
uint64_t truncated(uint64_t value, Type type) {
  const int bits = bitsOf(type);
  return bits >= 64 ? value : value & ((uint64_t{1} << bits) - 1);
}
int64_t extended(uint64_t value, Type type) {
  const int bits = bitsOf(type);
  if (bits >= 64) return static_cast<int64_t>(value);
  return static_cast<int64_t>(value << (64 - bits)) >> (64 - bits);
}

template <class Body>
void each(uint32_t lanes, Body body) {
  for (; lanes; lanes &= lanes - 1) body(__builtin_ctz(lanes));
}

/// f(lane) for each lane, to the first operand.
template <class F>
void assign(Warp &warp, const Instruction &in, uint32_t lanes, F f) {
  Lanes &to = warp.write(in.operands[0][0], lanes);
  each(lanes, [&](int lane) { to[lane] = f(lane); });
}

// ---- arithmetic: the template is the operation -----------------------------------------------

template <class Op>
void unary(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes &x = warp.read(in.operands[1][0], lanes);
  assign(warp, in, lanes, [&](int lane) { return Op::apply(in, x[lane]); });
}
template <class Op>
void binary(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes &x = warp.read(in.operands[1][0], lanes), &y = warp.read(in.operands[2][0], lanes);
  assign(warp, in, lanes, [&](int lane) { return Op::apply(in, x[lane], y[lane]); });
}
template <class Op>
void ternary(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes &x = warp.read(in.operands[1][0], lanes), &y = warp.read(in.operands[2][0], lanes),
              &z = warp.read(in.operands[3][0], lanes);
  assign(warp, in, lanes, [&](int lane) { return Op::apply(in, x[lane], y[lane], z[lane]); });
}

struct Add { static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) {
  return isFloat(in.type) ? asBits(asFloat(x) + asFloat(y)) : truncated(x + y, in.type); } };
struct Sub { static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) {
  return isFloat(in.type) ? asBits(asFloat(x) - asFloat(y)) : truncated(x - y, in.type); } };
struct Mul { static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) {
  return isFloat(in.type) ? asBits(asFloat(x) * asFloat(y)) : truncated(x * y, in.type); } };
struct MulHi { static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) {
  if (isSigned(in.type)) return truncated(static_cast<uint64_t>((static_cast<__int128>(extended(x, in.type)) * extended(y, in.type)) >> bitsOf(in.type)), in.type);
  return truncated(static_cast<uint64_t>((static_cast<unsigned __int128>(x) * y) >> bitsOf(in.type)), in.type); } };
struct MulWide { static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) {
  return isSigned(in.type) ? static_cast<uint64_t>(extended(x, in.type) * extended(y, in.type)) : truncated(x, in.type) * truncated(y, in.type); } };
struct Mad { static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y, uint64_t z) { return truncated(x * y + z, in.type); } };
struct MadWide { static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y, uint64_t z) { return MulWide::apply(in, x, y) + z; } };
struct Fma { static uint64_t apply(const Instruction &, uint64_t x, uint64_t y, uint64_t z) {
  return asBits(std::fmaf(asFloat(x), asFloat(y), asFloat(z))); } };
struct Div { static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) {
  if (isFloat(in.type)) return asBits(asFloat(x) / asFloat(y));
  if (truncated(y, in.type) == 0) return truncated(~uint64_t{0}, in.type);
  if (isSigned(in.type)) return truncated(static_cast<uint64_t>(extended(x, in.type) / extended(y, in.type)), in.type);
  return truncated(x, in.type) / truncated(y, in.type); } };
struct Rem { static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) {
  if (truncated(y, in.type) == 0) return truncated(x, in.type);
  if (isSigned(in.type)) return truncated(static_cast<uint64_t>(extended(x, in.type) % extended(y, in.type)), in.type);
  return truncated(x, in.type) % truncated(y, in.type); } };
template <bool Greater>
struct ExtremeNaN { static uint64_t apply(const Instruction &, uint64_t x, uint64_t y) {
  const float a = asFloat(x), b = asFloat(y);
  if (std::isnan(a) || std::isnan(b)) return 0x7FFFFFFF;
  return asBits(Greater ? std::fmax(a, b) : std::fmin(a, b)); } };
template <bool Greater>
struct Extreme { static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) {
  if (isFloat(in.type)) return asBits(Greater ? std::fmax(asFloat(x), asFloat(y)) : std::fmin(asFloat(x), asFloat(y)));
  const bool less = isSigned(in.type) ? extended(x, in.type) < extended(y, in.type) : truncated(x, in.type) < truncated(y, in.type);
  return less == Greater ? y : x; } };
struct And { static uint64_t apply(const Instruction &, uint64_t x, uint64_t y) { return x & y; } };
struct Or { static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) { return truncated(x | y, in.type); } };
struct Xor { static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) { return truncated(x ^ y, in.type); } };
struct Not { static uint64_t apply(const Instruction &in, uint64_t x) { return truncated(~x, in.type); } };
struct Popc { static uint64_t apply(const Instruction &, uint64_t x) { return static_cast<uint64_t>(std::popcount(x & 0xFFFFFFFF)); } };
struct Shl { static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) {
  return (y & 0xFFFFFFFF) >= static_cast<uint64_t>(bitsOf(in.type)) ? 0 : truncated(x << (y & 63), in.type); } };
struct Shr { static uint64_t apply(const Instruction &in, uint64_t x, uint64_t y) {
  const uint64_t by = std::min<uint64_t>(y & 0xFFFFFFFF, bitsOf(in.type));
  if (isSigned(in.type)) return truncated(static_cast<uint64_t>(extended(x, in.type) >> std::min<uint64_t>(by, 63)), in.type);
  return by >= 64 ? 0 : truncated(x, in.type) >> by; } };
struct Neg { static uint64_t apply(const Instruction &in, uint64_t x) {
  return isFloat(in.type) ? (x ^ 0x80000000u) : truncated(0 - x, in.type); } };
struct Abs { static uint64_t apply(const Instruction &in, uint64_t x) {
  if (isFloat(in.type)) return x & 0x7FFFFFFF;
  const int64_t value = extended(x, in.type);
  return truncated(static_cast<uint64_t>(value < 0 ? -value : value), in.type); } };
struct Rcp { static uint64_t apply(const Instruction &, uint64_t x) { return asBits(1.0f / asFloat(x)); } };
struct Sqrt { static uint64_t apply(const Instruction &, uint64_t x) { return asBits(std::sqrt(asFloat(x))); } };
struct Ex2 { static uint64_t apply(const Instruction &, uint64_t x) { return asBits(static_cast<float>(std::exp2(static_cast<double>(asFloat(x))))); } };
struct Lg2 { static uint64_t apply(const Instruction &, uint64_t x) { return asBits(static_cast<float>(std::log2(static_cast<double>(asFloat(x))))); } };
struct CopySign { static uint64_t apply(const Instruction &, uint64_t x, uint64_t y) { return (x & 0x80000000u) | (y & 0x7FFFFFFF); } };
struct Bfe { static uint64_t apply(const Instruction &in, uint64_t x, uint64_t start, uint64_t length) {
  const uint64_t field = length >= 32 ? x >> start : (x >> start) & ((uint64_t{1} << length) - 1);
  if (!isSigned(in.type) || length == 0) return truncated(field, in.type);
  return truncated(static_cast<uint64_t>(static_cast<int64_t>(field << (64 - length)) >> (64 - length)), in.type); } };
struct Prmt { static uint64_t apply(const Instruction &, uint64_t x, uint64_t y, uint64_t selector) {
  const uint64_t bytes = (x & 0xFFFFFFFF) | y << 32;
  uint64_t result = 0;
  for (int at = 0; at < 4; ++at) {
    const uint64_t choice = selector >> 4 * at & 15;
    uint64_t byte = bytes >> 8 * (choice & 7) & 255;
    if (choice & 8) byte = byte & 128 ? 255 : 0;
    result |= byte << 8 * at;
  }
  return result; } };

void selp(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes &x = warp.read(in.operands[1][0], lanes), &y = warp.read(in.operands[2][0], lanes),
              &p = warp.read(in.operands[3][0], lanes);
  assign(warp, in, lanes, [&](int lane) { return truncated(p[lane] ? x[lane] : y[lane], in.type); });
}

enum Comparison { Eq, Ne, Lt, Le, Gt, Ge, Lo, Ls, Hi, Hs, Equ, Neu, Ltu, Leu, Gtu, Geu, Num, Nan };

template <class T>
bool compare(int how, T x, T y) {
  switch (how) {
    case Eq: case Equ: return x == y;
    case Ne: case Neu: return x != y;
    case Lt: case Ltu: case Lo: return x < y;
    case Le: case Leu: case Ls: return x <= y;
    case Gt: case Gtu: case Hi: return x > y;
    default: return x >= y;
  }
}
void setp(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes &x = warp.read(in.operands[1][0], lanes), &y = warp.read(in.operands[2][0], lanes);
  assign(warp, in, lanes, [&](int lane) -> uint64_t {
    if (isFloat(in.type)) {
      const float a = asFloat(x[lane]), b = asFloat(y[lane]);
      const bool unordered = std::isnan(a) || std::isnan(b);
      if (in.variant == Num || in.variant == Nan) return unordered == (in.variant == Nan);
      if (unordered) return in.variant >= Equ;
      return compare(in.variant, a, b);
    }
    if (isSigned(in.type)) return compare(in.variant, extended(x[lane], in.type), extended(y[lane], in.type));
    return compare(in.variant, truncated(x[lane], in.type), truncated(y[lane], in.type));
  });
}

// ---- conversions -----------------------------------------------------------------------------

enum Rounding { NoRounding, Rn, Rz, Rzi, Rni, Rmi, Rpi, Rna };

float floatOf(uint64_t bits, Type type) {
  switch (type) {
    case Type::F16: return fromF16(bits);
    case Type::BF16: return fromBf16(bits);
    default: return asFloat(bits);
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
uint64_t converted(const Instruction &in, uint64_t x) {
  const bool fromFloat = in.from == Type::F32 || in.from == Type::F16 || in.from == Type::BF16;
  switch (in.type) {
    case Type::F32:
      if (in.from == Type::F32) return asBits(in.variant >= Rzi && in.variant <= Rpi ? rounded(asFloat(x), in.variant) : asFloat(x));
      if (fromFloat) return asBits(floatOf(x, in.from));
      return asBits(isSigned(in.from) ? static_cast<float>(extended(x, in.from)) : static_cast<float>(truncated(x, in.from)));
    case Type::F16: return toF16(floatOf(x, in.from));
    case Type::BF16: return toBf16(floatOf(x, in.from));
    case Type::TF32: return toTf32(asFloat(x));
    default: break;
  }
  if (fromFloat) {
    const double value = rounded(floatOf(x, in.from), in.variant);
    if (std::isnan(value)) return 0;
    const int bits = bitsOf(in.type);
    const double low = isSigned(in.type) ? -std::ldexp(1.0, bits - 1) : 0.0;
    const double high = std::ldexp(1.0, isSigned(in.type) ? bits - 1 : bits);
    if (value < low) return truncated(isSigned(in.type) ? uint64_t{1} << (bits - 1) : 0, in.type);
    if (value >= high) return truncated((isSigned(in.type) ? uint64_t{1} << (bits - 1) : 0) - 1, in.type);
    return truncated(isSigned(in.type) ? static_cast<uint64_t>(static_cast<int64_t>(value)) : static_cast<uint64_t>(value), in.type);
  }
  return truncated(isSigned(in.from) ? static_cast<uint64_t>(extended(x, in.from)) : truncated(x, in.from), in.type);
}
struct Cvt { static uint64_t apply(const Instruction &in, uint64_t x) { return converted(in, x); } };
/// cvt.f16x2.f32 d, a, b: a in the upper half.
struct CvtPair { static uint64_t apply(const Instruction &in, uint64_t high, uint64_t low) {
  return in.type == Type::BF16x2 ? toBf16(asFloat(high)) << 16 | toBf16(asFloat(low)) : toF16(asFloat(high)) << 16 | toF16(asFloat(low)); } };

// ---- moves and control -----------------------------------------------------------------------

void mov(Warp &warp, const Instruction &in, uint32_t lanes) {
  const auto &to = in.operands[0], &from = in.operands[1];
  if (to.size() > 1) {  // unpack
    const Lanes x = warp.read(from[0], lanes);
    const int bits = bitsOf(in.type) / static_cast<int>(to.size());
    for (size_t part = 0; part < to.size(); ++part) {
      Lanes &own = warp.write(to[part], lanes);
      each(lanes, [&](int lane) { own[lane] = x[lane] >> bits * part & ((uint64_t{1} << bits) - 1); });
    }
    return;
  }
  if (from.size() > 1) {  // pack
    const int bits = bitsOf(in.type) / static_cast<int>(from.size());
    Lanes sum{};
    for (size_t part = 0; part < from.size(); ++part) {
      const Lanes &own = warp.read(from[part], lanes);
      each(lanes, [&](int lane) { sum[lane] |= (own[lane] & ((uint64_t{1} << bits) - 1)) << bits * part; });
    }
    assign(warp, in, lanes, [&](int lane) { return sum[lane]; });
    return;
  }
  if (from[0].kind == Operand::Kind::Address && from[0].index == -2) {
    assign(warp, in, lanes, [&](int lane) -> uint64_t {
      switch (from[0].value) {
        case 0: return 32 * warp.number + lane;
        case 1: return warp.block.launch.threads;
        case 2: return warp.block.index;
        case 3: return warp.block.launch.blocks;
        default: return lane;
      }
    });
    return;
  }
  const Lanes &x = warp.read(from[0], lanes);
  assign(warp, in, lanes, [&](int lane) { return truncated(x[lane], in.type); });
}

void bra(Warp &warp, const Instruction &in, uint32_t lanes) { warp.branch(in.operands[0][0].index, lanes); }
void ret(Warp &warp, const Instruction &, uint32_t lanes) { warp.leave(lanes); }
void bar(Warp &warp, const Instruction &, uint32_t) { warp.waiting = true; }

/// All lanes are here, and what they have stored can be loaded: the table says `converged`.
void meet(Warp &, const Instruction &, uint32_t) {}

void ballot(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes &flags = warp.read(in.operands[1][0], lanes);
  uint64_t all = 0;
  each(lanes, [&](int lane) { all |= (flags[lane] & 1) << lane; });
  assign(warp, in, lanes, [&](int) { return all; });
}

void shfl(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes x = warp.read(in.operands[1][0], lanes);
  const Lanes &distance = warp.read(in.operands[2][0], lanes);
  assign(warp, in, lanes, [&](int lane) {
    const int other = static_cast<int>((lane ^ distance[lane]) & 31);
    if (!(lanes >> other & 1)) warp.fail("shuffle with lane " + std::to_string(other) + ", which is not here", lane);
    return x[other];
  });
}

// ---- memory ----------------------------------------------------------------------------------

enum Space { Param, Global, Shared };

/// Passes of shared memory that `width` bytes a lane take: 32 banks of 4 bytes, one word a bank a pass.
void countBanks(Warp &warp, const std::vector<std::pair<int, uint64_t>> &addresses, int width) {
  const int together = std::max(1, 128 / std::max(width, 4));   // lanes that share a pass at best
  int64_t passes = 0, groups = 0;
  for (size_t begin = 0; begin < addresses.size();) {
    std::array<std::vector<uint64_t>, 32> banks;
    const int group = addresses[begin].first / together;
    size_t end = begin;
    for (; end < addresses.size() && addresses[end].first / together == group; ++end)
      for (int word = 0; word < std::max(width / 4, 1); ++word) {
        const uint64_t own = addresses[end].second / 4 + word;
        auto &bank = banks[own % 32];
        if (std::find(bank.begin(), bank.end(), own) == bank.end()) bank.push_back(own);
      }
    size_t most = 1;
    for (const auto &bank : banks) most = std::max(most, bank.size());
    passes += static_cast<int64_t>(most);
    ++groups;
    begin = end;
  }
  warp.block.report.sharedAccesses += groups;
  warp.block.report.bankConflicts += passes - groups;
}

void load(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Operand &address = in.operands[1][0];
  const Lanes *found = warp.base(address, lanes);
  Lanes base{};
  if (found) base = *found;
  const int bytes = bitsOf(in.type) / 8;
  const auto &to = in.operands[0];
  std::vector<std::pair<int, uint64_t>> touched;
  std::vector<Lanes *> out;
  for (const Operand &own : to) out.push_back(&warp.write(own, lanes));
  each(lanes, [&](int lane) {
    const uint64_t first = address.value + base[lane];
    const int whole = bytes * static_cast<int>(to.size());
    if (in.variant == Global) {
      const uint8_t *from = warp.block.global(warp, lane, first, whole);
      for (size_t part = 0; part < to.size(); ++part) {
        uint64_t value = 0;
        std::memcpy(&value, from + part * bytes, bytes);
        (*out[part])[lane] = isSigned(in.type) ? static_cast<uint64_t>(extended(value, in.type)) : value;
      }
    } else if (in.variant == Shared) {
      if (first % whole) warp.fail("misaligned access of " + std::to_string(whole) + " bytes at shared address " + std::to_string(first), lane);
      touched.push_back({lane, first});
      for (size_t part = 0; part < to.size(); ++part)
        (*out[part])[lane] = warp.block.readShared(warp, lane, first + part * bytes, bytes);
    } else {
      const auto &parameters = warp.block.launch.parameters;
      if (first + whole > parameters.size()) warp.fail("read past the parameters", lane);
      for (size_t part = 0; part < to.size(); ++part) {
        uint64_t value = 0;
        std::memcpy(&value, &parameters[first + part * bytes], bytes);
        (*out[part])[lane] = value;
      }
    }
    if (bitsOf(in.type) < 64)
      for (Lanes *own : out) (*own)[lane] = truncated((*own)[lane], isSigned(in.type) ? Type::B64 : in.type);
  });
  if (in.variant == Shared) countBanks(warp, touched, bytes * static_cast<int>(to.size()));
}

void store(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Operand &address = in.operands[0][0];
  const Lanes *found = warp.base(address, lanes);
  Lanes base{};
  if (found) base = *found;
  const int bytes = bitsOf(in.type) / 8;
  const auto &from = in.operands[1];
  const int whole = bytes * static_cast<int>(from.size());
  std::vector<std::pair<int, uint64_t>> touched;
  std::vector<Lanes> values;
  for (const Operand &own : from) values.push_back(warp.read(own, lanes));
  each(lanes, [&](int lane) {
    const uint64_t first = address.value + base[lane];
    uint8_t packed[32];
    for (size_t part = 0; part < from.size(); ++part) std::memcpy(packed + part * bytes, &values[part][lane], bytes);
    if (in.variant == Global) {
      std::memcpy(warp.block.global(warp, lane, first, whole), packed, whole);
    } else {
      if (first % whole) warp.fail("misaligned access of " + std::to_string(whole) + " bytes at shared address " + std::to_string(first), lane);
      touched.push_back({lane, first});
      for (size_t part = 0; part < from.size(); ++part)
        warp.block.writeShared(warp, lane, first + part * bytes, bytes, packed + part * bytes);
    }
  });
  if (in.variant == Shared) countBanks(warp, touched, whole);
}

/// atom.global.add.f32 d, [a], b and red.global.add.f32 [a], b.
void atomicAdd(Warp &warp, const Instruction &in, uint32_t lanes) {
  const bool returns = in.operands.size() == 3;
  const Operand &address = in.operands[returns ? 1 : 0][0];
  const Lanes *found = warp.base(address, lanes);
  Lanes base{};
  if (found) base = *found;
  const Lanes x = warp.read(in.operands[returns ? 2 : 1][0], lanes);
  Lanes old{};
  each(lanes, [&](int lane) {
    float *to = reinterpret_cast<float *>(warp.block.global(warp, lane, address.value + base[lane], 4));
    old[lane] = asBits(std::atomic_ref<float>(*to).fetch_add(asFloat(x[lane])));
  });
  if (returns) assign(warp, in, lanes, [&](int lane) { return old[lane]; });
}

void cpAsync(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes to = *warp.base(in.operands[0][0], lanes), from = *warp.base(in.operands[1][0], lanes);
  const int bytes = static_cast<int>(in.operands[2][0].value);
  const Lanes size = in.operands.size() > 3 ? warp.read(in.operands[3][0], lanes) : warp.read(in.operands[2][0], lanes);
  std::vector<std::pair<int, uint64_t>> touched;
  each(lanes, [&](int lane) {
    Warp::Copy copy{lane, in.operands[0][0].value + to[lane], bytes, {}};
    const int read = static_cast<int>(size[lane]);
    if (read > bytes) warp.fail("cp.async of " + std::to_string(read) + " bytes into " + std::to_string(bytes), lane);
    const uint64_t source = in.operands[1][0].value + from[lane];
    if (source % bytes) warp.fail("misaligned cp.async source", lane);
    if (read) std::memcpy(copy.data, warp.block.global(warp, lane, source, read), read);
    warp.block.writeShared(warp, lane, copy.to, bytes, nullptr);
    touched.push_back({lane, copy.to});
    warp.open.push_back(copy);
  });
  countBanks(warp, touched, bytes);
}
void cpCommit(Warp &warp, const Instruction &, uint32_t) {
  warp.groups.push_back(std::move(warp.open));
  warp.open.clear();
}
void cpWait(Warp &warp, const Instruction &in, uint32_t) {
  while (warp.groups.size() > in.operands[0][0].value) {
    for (const Warp::Copy &copy : warp.groups.front()) warp.block.deliver(warp, copy);
    warp.groups.pop_front();
  }
}

// ---- matrices --------------------------------------------------------------------------------

/// ldmatrix.m8n8.xN: lanes 8m .. 8m + 7 point at the rows of matrix m.
void ldmatrix(Warp &warp, const Instruction &in, uint32_t lanes) {
  ++warp.block.report.ldmatrix;
  const Lanes base = *warp.base(in.operands[1][0], lanes);
  const bool transposed = in.variant & 1;
  const int count = static_cast<int>(in.operands[0].size());
  std::vector<Lanes *> out;
  for (const Operand &own : in.operands[0]) out.push_back(&warp.write(own, lanes));
  for (int matrix = 0; matrix < count; ++matrix) {
    uint16_t elements[8][8];
    std::vector<std::pair<int, uint64_t>> touched;
    for (int row = 0; row < 8; ++row) {
      const int lane = 8 * matrix + row;
      const uint64_t address = in.operands[1][0].value + base[lane];
      if (address % 16) warp.fail("misaligned ldmatrix row", lane);
      touched.push_back({row, address});
      for (int half = 0; half < 2; ++half) {
        const uint64_t eight = warp.block.readShared(warp, lane, address + 8 * half, 8);
        std::memcpy(&elements[row][4 * half], &eight, 8);
      }
    }
    countBanks(warp, touched, 16);
    for (int lane = 0; lane < 32; ++lane) {
      const int row = lane / 4, column = lane % 4 * 2;
      const uint64_t low = transposed ? elements[column][row] : elements[row][column];
      const uint64_t high = transposed ? elements[column + 1][row] : elements[row][column + 1];
      (*out[matrix])[lane] = low | high << 16;
    }
  }
}

/// mma.m16n8kK.row.col with f32 sums. Products are exact; each sum of K products and c is rounded once.
template <int K>
void mma(Warp &warp, const Instruction &in, uint32_t lanes) {
  ++warp.block.report.mma;
  std::array<Lanes, 4> a, c;
  std::array<Lanes, 2> b;
  for (int at = 0; at < 4; ++at) a[at] = warp.read(in.operands[1][at], lanes);
  for (int at = 0; at < 2; ++at) b[at] = warp.read(in.operands[2][at], lanes);
  for (int at = 0; at < 4; ++at) c[at] = warp.read(in.operands[3][at], lanes);
  double left[16][K], right[K][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane / 4, quad = lane % 4;
    for (int at = 0; at < 4; ++at) {
      const int row = group + 8 * (at & 1);
      if (in.type == Type::TF32) {
        left[row][quad + 4 * (at >> 1)] = fromTf32(a[at][lane]);
      } else {
        for (int part = 0; part < 2; ++part)
          left[row][2 * quad + part + 8 * (at >> 1)] = floatOf(a[at][lane] >> 16 * part & 0xFFFF, in.type);
      }
    }
    for (int at = 0; at < 2; ++at) {
      if (in.type == Type::TF32) {
        right[quad + 4 * at][group] = fromTf32(b[at][lane]);
      } else {
        for (int part = 0; part < 2; ++part)
          right[2 * quad + part + 8 * at][group] = floatOf(b[at][lane] >> 16 * part & 0xFFFF, in.type);
      }
    }
  }
  std::array<Lanes *, 4> out;
  for (int at = 0; at < 4; ++at) out[at] = &warp.write(in.operands[0][at], lanes);
  for (int lane = 0; lane < 32; ++lane)
    for (int at = 0; at < 4; ++at) {
      const int row = lane / 4 + 8 * (at >> 1), column = lane % 4 * 2 + (at & 1);
      double sum = asFloat(c[at][lane]);
      for (int k = 0; k < K; ++k) sum += left[row][k] * right[k][column];
      (*out[at])[lane] = asBits(static_cast<float>(sum));
    }
}

// ---- the table -------------------------------------------------------------------------------

const std::map<std::string, Type> types = {
    {"pred", Type::Pred}, {"b8", Type::B8}, {"u8", Type::U8}, {"s8", Type::S8}, {"b16", Type::B16}, {"u16", Type::U16}, {"s16", Type::S16},
    {"b32", Type::B32}, {"u32", Type::U32}, {"s32", Type::S32}, {"b64", Type::B64}, {"u64", Type::U64}, {"s64", Type::S64},
    {"f16", Type::F16}, {"bf16", Type::BF16}, {"f16x2", Type::F16x2}, {"bf16x2", Type::BF16x2}, {"tf32", Type::TF32}, {"f32", Type::F32}};
const std::map<std::string, int> comparisons = {
    {"eq", Eq}, {"ne", Ne}, {"lt", Lt}, {"le", Le}, {"gt", Gt}, {"ge", Ge}, {"lo", Lo}, {"ls", Ls}, {"hi", Hi}, {"hs", Hs}, {"equ", Equ},
    {"neu", Neu}, {"ltu", Ltu}, {"leu", Leu}, {"gtu", Gtu}, {"geu", Geu}, {"num", Num}, {"nan", Nan}};
const std::map<std::string, int> roundings = {{"rn", Rn}, {"rz", Rz}, {"rzi", Rzi}, {"rni", Rni}, {"rmi", Rmi}, {"rpi", Rpi}, {"rna", Rna}};

/// Operations of one type, with the kinds of type they take: i integer, f f32, b bits, p predicate.
struct Simple { Handler handler; const char *kinds; };
const std::map<std::string, Simple> simple = {
    {"add", {binary<Add>, "if"}}, {"sub", {binary<Sub>, "if"}}, {"mul.lo", {binary<Mul>, "i"}}, {"mul", {binary<Mul>, "f"}},
    {"mul.hi", {binary<MulHi>, "i"}}, {"mul.wide", {binary<MulWide>, "i"}}, {"mad.lo", {ternary<Mad>, "i"}}, {"mad.wide", {ternary<MadWide>, "i"}},
    {"fma", {ternary<Fma>, "f"}}, {"div", {binary<Div>, "if"}}, {"rem", {binary<Rem>, "i"}}, {"max", {binary<Extreme<true>>, "if"}},
    {"min", {binary<Extreme<false>>, "if"}}, {"max.NaN", {binary<ExtremeNaN<true>>, "f"}}, {"min.NaN", {binary<ExtremeNaN<false>>, "f"}}, {"and", {binary<And>, "bp"}}, {"or", {binary<Or>, "bp"}}, {"xor", {binary<Xor>, "bp"}},
    {"not", {unary<Not>, "bp"}}, {"shl", {binary<Shl>, "b"}}, {"shr", {binary<Shr>, "ib"}}, {"neg", {unary<Neg>, "if"}}, {"abs", {unary<Abs>, "if"}},
    {"rcp", {unary<Rcp>, "f"}}, {"sqrt", {unary<Sqrt>, "f"}}, {"ex2.approx", {unary<Ex2>, "f"}}, {"lg2.approx", {unary<Lg2>, "f"}},
    {"copysign", {binary<CopySign>, "f"}}, {"bfe", {ternary<Bfe>, "i"}}, {"prmt", {ternary<Prmt>, "b"}}, {"selp", {selp, "ibf"}}, {"popc", {unary<Popc>, "b"}}, {"mov", {mov, "ibfp"}}};

char kindOf(Type type) {
  switch (type) {
    case Type::Pred: return 'p';
    case Type::F32: return 'f';
    case Type::U16: case Type::S16: case Type::U32: case Type::S32: case Type::U64: case Type::S64: return 'i';
    case Type::B16: case Type::B32: case Type::B64: return 'b';
    default: return '?';
  }
}

}  // namespace

void decode(const std::string &opcode, Instruction &in) {
  auto unknown = [&] { return std::runtime_error("unknown instruction " + opcode); };
  static const std::map<std::string, std::pair<Handler, bool>> whole = {
      {"bra", {bra, false}}, {"bra.uni", {bra, false}}, {"ret", {ret, false}}, {"bar.sync", {bar, true}}, {"barrier.sync.aligned", {bar, true}},
      {"cp.async.commit_group", {cpCommit, false}}, {"cp.async.wait_group", {cpWait, false}}, {"cp.async.cg.shared.global", {cpAsync, false}},
      {"cp.async.ca.shared.global", {cpAsync, false}}, {"atom.global.add.f32", {atomicAdd, false}}, {"red.global.add.f32", {atomicAdd, false}},
      {"atom.relaxed.gpu.global.add.f32", {atomicAdd, false}}, {"red.relaxed.gpu.global.add.f32", {atomicAdd, false}},
      {"bar.warp.sync", {meet, true}}, {"vote.sync.ballot.b32", {ballot, true}}, {"shfl.sync.bfly.b32", {shfl, true}}, {"ldmatrix.sync.aligned.m8n8.x4.shared.b16", {ldmatrix, true}}};
  if (auto found = whole.find(opcode); found != whole.end()) {
    in.execute = found->second.first;
    in.converged = found->second.second;
    if (in.execute == bra) in.ends = Instruction::Ends::Branch;
    if (in.execute == ret) in.ends = Instruction::Ends::Return;
    return;
  }
  if (opcode == "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16") {
    in.execute = ldmatrix;
    in.converged = true;
    in.variant = 1;
    return;
  }
  const std::map<std::string, std::pair<Handler, Type>> products = {
      {"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", {mma<16>, Type::BF16}},
      {"mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", {mma<16>, Type::F16}},
      {"mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", {mma<8>, Type::TF32}}};
  if (auto found = products.find(opcode); found != products.end()) {
    std::tie(in.execute, in.type) = found->second;
    in.converged = true;
    return;
  }
  std::vector<std::string> words;
  std::istringstream stream(opcode);
  for (std::string word; std::getline(stream, word, '.');) words.push_back(word);
  auto type = [&](const std::string &word) {
    auto found = types.find(word);
    if (found == types.end()) throw unknown();
    return found->second;
  };
  if (words[0] == "setp" && words.size() == 3) {
    auto found = comparisons.find(words[1]);
    if (found == comparisons.end()) throw unknown();
    in.execute = setp;
    in.variant = found->second;
    in.type = type(words[2]);
    return;
  }
  if (words[0] == "cvt" && words.size() >= 3) {
    in.type = type(words[words.size() - 2]);
    in.from = type(words.back());
    in.execute = in.type == Type::F16x2 || in.type == Type::BF16x2 ? binary<CvtPair> : unary<Cvt>;
    if (words.size() == 4) {
      auto found = roundings.find(words[1]);
      if (found == roundings.end()) throw unknown();
      in.variant = found->second;
    } else if (words.size() > 4) {
      throw unknown();
    }
    return;
  }
  if ((words[0] == "ld" || words[0] == "st") && words.size() >= 3) {
    const bool vector = words.size() == 4 && (words[2] == "v2" || words[2] == "v4");
    if (words.size() != (vector ? 4u : 3u)) throw unknown();
    const std::map<std::string, int> spaces = {{"param", Param}, {"global", Global}, {"shared", Shared}};
    auto found = spaces.find(words[1]);
    if (found == spaces.end() || (words[0] == "st" && found->second == Param)) throw unknown();
    in.execute = words[0] == "ld" ? load : store;
    in.variant = found->second;
    in.type = type(words.back());
    return;
  }
  // name[.mode][.rn].type
  std::string name = words[0];
  size_t at = 1;
  if (at + 1 < words.size() && simple.count(name + "." + words[at])) name += "." + words[at++];
  if (at + 1 < words.size() && words[at] == "rn") ++at;
  auto found = simple.find(name);
  if (found == simple.end() || at + 1 != words.size()) throw unknown();
  in.type = type(words[at]);
  if (!std::strchr(found->second.kinds, kindOf(in.type))) throw unknown();
  in.execute = found->second.handler;
}

}  // namespace weft::ptx
