// mbarrier.* and cp.async.mbarrier.arrive. Semantics: PTX ISA manual, "mbarrier".
#include <set>

#include "runtime/ptx_emulator/handlers.h"

namespace weft::ptx {
namespace {

/// Bits of Instruction::variant.
enum Variant : int { Generic = 1, Relaxed = 2, Parity = 4, Drop = 8, ExpectTx = 16, NoComplete = 32, NoInc = 64 };

/// body(lane, mbarrier) for each lane's address.
template <class Body>
void eachMbarrier(Warp &warp, const Instruction &in, const Operand &place, uint32_t lanes, Body body) {
  const Lanes all = addresses(warp, place, lanes);
  each(lanes, [&](int lane) {
    const uint64_t address = in.variant & Generic ? sharedOfGeneric(warp, lane, all[lane]) : all[lane];
    body(lane, warp.block.mbarriers.at(warp, lane, address));
  });
}

void init(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes all = addresses(warp, in.operands[0][0], lanes), counts = warp.read(in.operands[1][0], lanes);
  warp.block.shared.beginStore();
  each(lanes, [&](int lane) {
    const uint64_t address = in.variant & Generic ? sharedOfGeneric(warp, lane, all[lane]) : all[lane];
    warp.block.mbarriers.begin(warp, lane, address, counts[lane]);
  });
}

void inval(Warp &warp, const Instruction &in, uint32_t lanes) {
  eachMbarrier(warp, in, in.operands[0][0], lanes,
               [&](int lane, Mbarrier &own) { warp.block.mbarriers.end(warp, lane, own.address); });
}

void expectTx(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes bytes = warp.read(in.operands[1][0], lanes);
  eachMbarrier(warp, in, in.operands[0][0], lanes,
               [&](int lane, Mbarrier &own) { warp.block.mbarriers.expect(warp, lane, own, bytes[lane]); });
}

void completeTx(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes bytes = warp.read(in.operands[1][0], lanes);
  eachMbarrier(warp, in, in.operands[0][0], lanes, [&](int lane, Mbarrier &own) {
    warp.block.mbarriers.deliver(warp, lane, own, static_cast<int64_t>(bytes[lane]));
  });
}

/// state, [address] {, count or bytes}
void arrive(Warp &warp, const Instruction &in, uint32_t lanes) {
  Lanes last;
  last.fill(1);
  if (in.operands.size() > 2) last = warp.read(in.operands[2][0], lanes);
  Lanes states{};
  eachMbarrier(warp, in, in.operands[1][0], lanes, [&](int lane, Mbarrier &own) {
    Mbarriers &all = warp.block.mbarriers;
    states[lane] = Mbarriers::stateOf(own);
    uint64_t count = last[lane];
    if (in.variant & ExpectTx) {
      all.expect(warp, lane, own, count);
      count = 1;
    }
    if ((in.variant & NoComplete) && count >= own.pending)
      warp.fail("an arrival that is the last one, and .noComplete says it is not", lane);
    all.arrive(warp, lane, own, count, in.variant & Drop, !(in.variant & Relaxed));
  });
  if (in.operands[0][0].kind != Operand::Kind::Sink) assign(warp, in, lanes, [&](int lane) { return states[lane]; });
}

/// done, [address], state or parity {, time}. In vain: others run before the warp goes on.
void wait(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes phases = warp.read(in.operands[2][0], lanes);
  Lanes done{};
  std::vector<std::pair<const Mbarrier *, uint32_t>> complete;  // with the lanes that know it
  eachMbarrier(warp, in, in.operands[1][0], lanes, [&](int lane, Mbarrier &own) {
    done[lane] = in.variant & Parity ? Mbarriers::testParity(warp, lane, own, phases[lane])
                                     : Mbarriers::testState(warp, lane, own, phases[lane]);
    if (!done[lane]) {
      warp.wait = Warp::Wait::Mbarrier;
      warp.waitPlace = own.address;
      return;
    }
    if (complete.empty() || complete.back().first != &own) complete.push_back({&own, 0});
    complete.back().second |= 1u << lane;
  });
  SharedMemory &shared = warp.block.shared;
  for (const auto &[own, which] : complete) {
    if (in.variant & Relaxed) continue;
    shared.acquire(warp.number, which == warp.alive ? 0xFFFFFFFFu : which, own->complete);
  }
  assign(warp, in, lanes, [&](int lane) { return done[lane]; });
}

/// An arrival as soon as all cp.async of the thread so far have been delivered.
void arriveOfCopies(Warp &warp, const Instruction &in, uint32_t lanes) {
  eachMbarrier(warp, in, in.operands[0][0], lanes, [&](int lane, Mbarrier &own) {
    if (!(in.variant & NoInc)) warp.block.mbarriers.expectArrival(warp, lane, own);
    std::vector<Warp::Copy> copies = takeCopies(warp, lane);
    ++own.underWay;
    warp.block.later(warp, [&warp, lane, &own, copies = std::move(copies)]() mutable {
      for (Warp::Copy &copy : copies) deliverCopy(warp, copy, stampOf(own.agent, own.phase + 1));
      --own.underWay;
      warp.block.mbarriers.arrive(warp, lane, own, 1, false, false);
    });
  });
}

/// The words behind the operation: semantics, scope, space, type. False where they are none of these.
bool decodeRest(const Opcode &opcode, size_t at, const char *order, Instruction &in) {
  auto accept = [&](const std::set<std::string> &words) {
    if (at >= opcode.size() || !words.count(opcode[at])) return std::string();
    return opcode[at++];
  };
  const std::string own = accept({order, "relaxed"});
  if (own == "relaxed") in.variant |= Relaxed;
  const std::string scope = accept({"cta", "cluster"});
  if (!own.empty() && scope.empty()) return false;
  if (accept({"shared", "shared::cta", "shared::cluster"}).empty()) in.variant |= Generic;
  return at + 1 == opcode.size() && opcode[at] == "b64";
}

}  // namespace

std::optional<Signature> decodeMbarrier(const Opcode &opcode, Instruction &in) {
  if (opcode.text.rfind("cp.async.mbarrier.arrive", 0) == 0) {
    size_t at = 4;
    if (at < opcode.size() && opcode[at] == "noinc") {
      in.variant |= NoInc;
      ++at;
    }
    if (!decodeRest(opcode, at, "", in)) return {};
    in.execute = arriveOfCopies;
    return Signature{{address(in.variant & Generic ? 64 : 32)}};
  }
  if (opcode[0] != "mbarrier" || opcode.size() < 3) return {};
  const std::string &own = opcode[1];
  size_t at = 2;
  auto accept = [&](const char *word, int bit) {
    if (at >= opcode.size() || opcode[at] != word) return false;
    in.variant |= bit;
    ++at;
    return true;
  };
  if (own == "arrive" || own == "arrive_drop") {
    if (own == "arrive_drop") in.variant |= Drop;
    const bool bytes = accept("expect_tx", ExpectTx), more = !bytes && accept("noComplete", NoComplete);
    if (!decodeRest(opcode, at, "release", in)) return {};
    in.execute = arrive;
    OperandRule state = to(64);
    state.sink = true;
    return Signature{{state, address(in.variant & Generic ? 64 : 32), from(32)}, bytes || more ? 0u : 1u};
  }
  if (own == "try_wait" || own == "test_wait") {
    const bool parity = accept("parity", Parity);
    if (!decodeRest(opcode, at, "acquire", in)) return {};
    in.execute = wait;
    Signature signature{{to(1), address(in.variant & Generic ? 64 : 32), from(parity ? 32 : 64)}};
    if (own == "try_wait") {
      in.needs = Instruction::Needs::Sm90;
      signature.operands.push_back(from(32));
      signature.optional = 1;
    }
    return signature;
  }
  static const std::map<std::string, Handler> others = {
      {"init", init}, {"inval", inval}, {"expect_tx", expectTx}, {"complete_tx", completeTx}};
  const auto found = others.find(own);
  if (found == others.end() || !decodeRest(opcode, at, "", in)) return {};
  in.execute = found->second;
  Signature signature{{address(in.variant & Generic ? 64 : 32)}};
  if (own != "inval") signature.operands.push_back(from(32));
  return signature;
}

}  // namespace weft::ptx
