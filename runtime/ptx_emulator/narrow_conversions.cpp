// cvt between pairs of numbers of 8 bits and of 16 or 32. Semantics: PTX ISA manual, "cvt".
#include "runtime/ptx_emulator/handlers.h"
#include "runtime/ptx_emulator/narrow_floats.h"

namespace weft::ptx {
namespace {

/// Bits of Instruction::variant.
enum Variant : int { E5m2 = 1, Relu = 2 };

const NarrowFloat &formatOf(const Instruction &in) { return in.variant & E5m2 ? e5m2 : e4m3; }
float kept(const Instruction &in, float value) { return (in.variant & Relu) && value < 0 ? 0.0f : value; }

/// d, a, b: a in the upper half.
void fromFloats(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes high = warp.read(in.operands[1][0], lanes), low = warp.read(in.operands[2][0], lanes);
  auto narrow = [&](uint64_t bits) { return toNarrow(kept(in, asFloat(bits)), formatOf(in)); };
  assign(warp, in, lanes, [&](int lane) { return narrow(high[lane]) << 8 | narrow(low[lane]); });
}

void fromHalves(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes pairs = warp.read(in.operands[1][0], lanes);
  auto narrow = [&](uint64_t bits) { return toNarrow(kept(in, fromF16(bits & 0xFFFF)), formatOf(in)); };
  assign(warp, in, lanes, [&](int lane) { return narrow(pairs[lane] >> 16) << 8 | narrow(pairs[lane]); });
}

void toHalves(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes pairs = warp.read(in.operands[1][0], lanes);
  auto wide = [&](uint64_t bits) { return toF16(kept(in, fromNarrow(bits & 0xFF, formatOf(in)))); };
  assign(warp, in, lanes, [&](int lane) { return wide(pairs[lane] >> 8) << 16 | wide(pairs[lane]); });
}

}  // namespace

std::optional<Signature> decodeNarrowConversion(const Opcode &opcode, Instruction &in) {
  if (opcode[0] != "cvt") return {};
  std::string rest = opcode.text;
  if (const size_t at = rest.find(".relu"); at != std::string::npos) {
    in.variant |= Relu;
    rest.erase(at, std::string(".relu").size());
  }
  for (const std::string format : {"e4m3x2", "e5m2x2"}) {
    if (format == "e5m2x2") in.variant |= E5m2;
    in.needs = Instruction::Needs::Sm89;
    if (rest == "cvt.rn.satfinite." + format + ".f32") {
      in.execute = fromFloats;
      return Signature{{to(16), from(32), from(32)}};
    }
    if (rest == "cvt.rn.satfinite." + format + ".f16x2") {
      in.execute = fromHalves;
      return Signature{{to(16), from(32)}};
    }
    if (rest == "cvt.rn.f16x2." + format) {
      in.execute = toHalves;
      return Signature{{to(32), from(16)}};
    }
  }
  in = {};
  return {};
}

}  // namespace weft::ptx
