// Generic addresses and those of a cluster, whose only block is this one. Semantics: PTX ISA manual, "cvta", "mapa".
#include "runtime/ptx_emulator/handlers.h"

namespace weft::ptx {
namespace {

/// To or from a generic address: `window` lies between.
template <uint64_t Window, bool ToSpace>
void cvta(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes x = warp.read(in.operands[1][0], lanes);
  assign(warp, in, lanes, [&](int lane) {
    if (!ToSpace && Window && x[lane] >> 32)
      warp.fail("cvta of " + hex(x[lane]) + ", which is no address of the space", lane);
    if (ToSpace && x[lane] - Window >= uint64_t{1} << (Window ? 32 : 60))
      warp.fail("cvta of " + hex(x[lane]) + ", which is no generic address of the space", lane);
    return ToSpace ? x[lane] - Window : x[lane] + Window;
  });
}

void mapa(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes x = warp.read(in.operands[1][0], lanes), ranks = warp.read(in.operands[2][0], lanes);
  assign(warp, in, lanes, [&](int lane) {
    if (ranks[lane]) warp.fail("block " + std::to_string(ranks[lane]) + " of a cluster of one", lane);
    return x[lane];
  });
}

}  // namespace

std::optional<Signature> decodeAddressSpaces(const Opcode &opcode, Instruction &in) {
  static const std::map<std::string, Handler> casts = {{"cvta.shared.u64", cvta<sharedWindow, false>},
                                                       {"cvta.to.shared.u64", cvta<sharedWindow, true>},
                                                       {"cvta.shared::cluster.u64", cvta<sharedWindow, false>},
                                                       {"cvta.to.shared::cluster.u64", cvta<sharedWindow, true>},
                                                       {"cvta.param.u64", cvta<parameterWindow, false>},
                                                       {"cvta.to.param.u64", cvta<parameterWindow, true>},
                                                       {"cvta.global.u64", cvta<0, false>},
                                                       {"cvta.to.global.u64", cvta<0, true>}};
  if (auto found = casts.find(opcode.text); found != casts.end()) {
    in.execute = found->second;
    return Signature{{to(64), from(64)}};
  }
  if (opcode.text == "mapa.shared::cluster.u32" || opcode.text == "mapa.shared::cluster.u64") {
    in.execute = mapa;
    in.needs = Instruction::Needs::Sm90;
    const int bits = opcode[2] == "u32" ? 32 : 64;
    return Signature{{to(bits), from(bits), from(32)}};
  }
  return {};
}

}  // namespace weft::ptx
