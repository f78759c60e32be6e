// Moves, branches, and what the lanes of a warp do together. Semantics: PTX ISA manual, chapter 9.
#include <bit>
#include <map>
#include <set>

#include "runtime/ptx_emulator/handlers.h"

namespace weft::ptx {
namespace {

int64_t columnsOf(const Launch &launch) { return launch.columns ? launch.columns : launch.blocks; }

uint64_t special(const Warp &warp, uint64_t which, int lane) {
  switch (which) {
    case Thread: return 32 * static_cast<uint64_t>(warp.number) + static_cast<uint64_t>(lane);
    case Threads: return static_cast<uint64_t>(warp.block.launch.threads);
    case BlockIndex: return static_cast<uint64_t>(warp.block.index % columnsOf(warp.block.launch));
    case BlockRow: return static_cast<uint64_t>(warp.block.index / columnsOf(warp.block.launch));
    case Blocks: return static_cast<uint64_t>(columnsOf(warp.block.launch));
    case BlockRows: return static_cast<uint64_t>(warp.block.launch.blocks / columnsOf(warp.block.launch));
    case WarpIndex: return static_cast<uint64_t>(warp.number);
    case Zero: return 0;
    case One: return 1;
    default: return static_cast<uint64_t>(lane);
  }
}

/// {a, b} on either side: the first part is the lowest.
void mov(Warp &warp, const Instruction &in, uint32_t lanes) {
  const auto &to = in.operands[0], &from = in.operands[1];
  if (from[0].kind == Operand::Kind::Special) {
    assign(warp, in, lanes, [&](int lane) { return special(warp, from[0].value, lane); });
    return;
  }
  const int fromBits = bitsOf(in.type) / static_cast<int>(from.size()),
            toBits = bitsOf(in.type) / static_cast<int>(to.size());
  Lanes whole{};
  for (size_t part = 0; part < from.size(); ++part) {
    const Lanes &own = warp.read(from[part], lanes);
    each(lanes, [&](int lane) { whole[lane] |= own[lane] << fromBits * part; });
  }
  for (size_t part = 0; part < to.size(); ++part) {
    if (to[part].kind == Operand::Kind::Sink) continue;
    Lanes &own = warp.write(to[part], lanes);
    each(lanes, [&](int lane) { own[lane] = truncated(whole[lane] >> toBits * part, toBits); });
  }
}

template <bool Uniform>
void bra(Warp &warp, const Instruction &in, uint32_t lanes) {
  if (Uniform && lanes != warp.paths.back().lanes)
    warp.fail("only part of the lanes takes a branch that says all do", __builtin_ctz(lanes));
  warp.branch(in.operands[0][0].index, lanes);
}
void ret(Warp &warp, const Instruction &, uint32_t lanes) { warp.leave(lanes); }
/// All lanes have the same number there.
uint64_t uniform(Warp &warp, const Operand &operand, uint32_t lanes, const char *what) {
  const Lanes &all = warp.read(operand, lanes);
  const uint64_t first = all[std::countr_zero(lanes)];
  each(lanes, [&](int lane) {
    if (all[lane] != first) warp.fail(std::string("the lanes of the warp name different ") + what, lane);
  });
  return first;
}

template <bool Stays>
void bar(Warp &warp, const Instruction &in, uint32_t lanes) {
  const auto &own = in.operands;
  const uint64_t id = uniform(warp, own[0][0], lanes, "barriers"),
                 threads = own.size() > 1 ? uniform(warp, own[1][0], lanes, "counts of threads") : 0;
  if (own.size() > 1 && !threads) warp.fail("a barrier of 0 threads", std::countr_zero(lanes));
  warp.block.barriers.arrive(warp, id, threads, Stays);
}

/// Lanes wait for the lanes of the mask; the table says `converged`, so these must be all that are left.
void checkMask(Warp &warp, const Operand &mask, uint32_t lanes) {
  const Lanes &masks = warp.read(mask, lanes);
  each(lanes, [&](int lane) {
    if ((masks[lane] & lanes) != lanes) warp.fail("the mask leaves out lanes of the warp", lane);
  });
}

/// What the lanes have stored can be loaded by all of them.
void reconverge(Warp &warp, const Instruction &in, uint32_t lanes) {
  checkMask(warp, in.operands[0][0], lanes);
  warp.block.shared.warpBarrier(warp.number);
}

/// Order in memory is as written anyway: what they order of other threads is told by barriers.
void fence(Warp &, const Instruction &, uint32_t) {}
void fenceAsync(Warp &warp, const Instruction &, uint32_t lanes) { warp.block.shared.fenceAsync(warp.number, lanes); }

void nanosleep(Warp &warp, const Instruction &, uint32_t) { warp.yield(); }

/// elect.sync leader|leads, mask: the same lane whenever the mask is the same, and nobody knows which.
void elect(Warp &warp, const Instruction &in, uint32_t lanes) {
  checkMask(warp, in.operands[2][0], lanes);
  uint32_t left = lanes;
  if (const uint64_t seed = warp.block.launch.seed)
    for (uint64_t skip = (seed * 0x9E3779B97F4A7C15u >> 32) % static_cast<uint64_t>(std::popcount(lanes)); skip; --skip)
      left &= left - 1;
  const int leader = std::countr_zero(left);
  if (in.operands[0][0].kind != Operand::Kind::Sink)
    assign(warp, in, lanes, [&](int) { return static_cast<uint64_t>(leader); });
  Lanes &leads = warp.write(in.operands[1][0], lanes);
  each(lanes, [&](int lane) { leads[lane] = lane == leader; });
}

void ballot(Warp &warp, const Instruction &in, uint32_t lanes) {
  checkMask(warp, in.operands[2][0], lanes);
  const Lanes &flags = warp.read(in.operands[1][0], lanes);
  uint64_t all = 0;
  each(lanes, [&](int lane) { all |= (flags[lane] & 1) << lane; });
  assign(warp, in, lanes, [&](int) { return all; });
}

/// vote.sync.any.pred and vote.sync.all.pred.
template <bool Any>
void vote(Warp &warp, const Instruction &in, uint32_t lanes) {
  checkMask(warp, in.operands[2][0], lanes);
  const Lanes &flags = warp.read(in.operands[1][0], lanes);
  bool any = false, all = true;
  each(lanes, [&](int lane) {
    any |= (flags[lane] & 1) != 0;
    all &= (flags[lane] & 1) != 0;
  });
  assign(warp, in, lanes, [&](int) { return static_cast<uint64_t>(Any ? any : all); });
}

enum class Shuffle { Bfly, Idx, Up, Down };

template <Shuffle Mode>
void shfl(Warp &warp, const Instruction &in, uint32_t lanes) {
  checkMask(warp, in.operands[4][0], lanes);
  const Lanes x = warp.read(in.operands[1][0], lanes), distance = warp.read(in.operands[2][0], lanes),
              clamp = warp.read(in.operands[3][0], lanes);
  assign(warp, in, lanes, [&](int lane) {
    if (clamp[lane] != (Mode == Shuffle::Up ? 0 : 31)) warp.fail("only shuffles of the whole warp are known", lane);
    const int own = static_cast<int>(distance[lane] & 31);
    int other = Mode == Shuffle::Bfly  ? lane ^ own
                : Mode == Shuffle::Idx ? own
                : Mode == Shuffle::Up  ? lane - own
                                       : lane + own;
    // Beyond the ends each keeps what it has.
    if (other < 0 || other > 31) other = lane;
    if (!(lanes >> other & 1)) warp.fail("shuffle with lane " + std::to_string(other) + ", which is not here", lane);
    return x[other];
  });
}

}  // namespace

std::optional<Signature> decodeFlow(const Opcode &opcode, Instruction &in) {
  auto be = [&](Handler handler, bool converged, Signature signature) {
    in.execute = handler;
    in.converged = converged;
    return signature;
  };
  const std::string &own = opcode.text;
  if (own == "bra" || own == "bra.uni") {
    in.ends = Instruction::Ends::Branch;
    return be(own == "bra" ? bra<false> : bra<true>, false, {{{OperandRule::Kind::Label}}});
  }
  if (own == "ret") {
    in.ends = Instruction::Ends::Return;
    return be(ret, false, {});
  }
  static const std::set<std::string> syncs = {"bar.sync",         "bar.cta.sync",
                                              "barrier.sync",     "barrier.sync.aligned",
                                              "barrier.cta.sync", "barrier.cta.sync.aligned"};
  static const std::set<std::string> arrives = {"bar.arrive",         "bar.cta.arrive",
                                                "barrier.arrive",     "barrier.arrive.aligned",
                                                "barrier.cta.arrive", "barrier.cta.arrive.aligned"};
  // Those that are not .aligned too are known for whole warps only.
  if (syncs.count(own)) return be(bar<true>, true, {{from(32), from(32)}, 1});
  if (arrives.count(own)) return be(bar<false>, true, {{from(32), from(32)}});
  static const std::set<std::string> asyncFences = {"fence.proxy.async", "fence.proxy.async.shared::cta",
                                                    "fence.proxy.async.shared::cluster"};
  if (asyncFences.count(own)) return be(fenceAsync, false, {});
  // Launches come one after the other: the one before has ended.
  if (own == "griddepcontrol.wait" || own == "griddepcontrol.launch_dependents") return be(fence, false, {});
  if (own == "fence.proxy.async.global" || own == "fence.mbarrier_init.release.cluster") return be(fence, false, {});
  if (opcode.size() == 3 && opcode[0] == "fence" && (opcode[1] == "acq_rel" || opcode[1] == "sc") &&
      (opcode[2] == "cta" || opcode[2] == "cluster" || opcode[2] == "gpu" || opcode[2] == "sys"))
    return be(fence, false, {});
  if (own == "nanosleep.u32") return be(nanosleep, false, {{from(32)}});
  if (own == "elect.sync") {
    in.needs = Instruction::Needs::Sm90;
    OperandRule leader = to(32), leads = to(1);
    leader.sink = leads.joined = true;
    return be(elect, true, {{leader, leads, from(32)}});
  }
  if (own == "bar.warp.sync") return be(reconverge, true, {{from(32)}});
  if (own == "vote.sync.ballot.b32") return be(ballot, true, {{to(32), from(1), from(32)}});
  if (own == "vote.sync.any.pred") return be(vote<true>, true, {{to(1), from(1), from(32)}});
  if (own == "vote.sync.all.pred") return be(vote<false>, true, {{to(1), from(1), from(32)}});
  static const std::map<std::string, Handler> shuffles = {{"shfl.sync.bfly.b32", shfl<Shuffle::Bfly>},
                                                          {"shfl.sync.idx.b32", shfl<Shuffle::Idx>},
                                                          {"shfl.sync.up.b32", shfl<Shuffle::Up>},
                                                          {"shfl.sync.down.b32", shfl<Shuffle::Down>}};
  if (auto found = shuffles.find(own); found != shuffles.end())
    return be(found->second, true, {{to(32), from(32), from(32), from(32), from(32)}});
  if (opcode.size() == 2 && opcode[0] == "mov") {
    in.type = typeOf(opcode[1]);
    const int bits = bitsOf(in.type);
    if (bits != 1 && bits != 16 && bits != 32 && bits != 64) return {};
    const int parts = bits >= 32 ? 4 : 1;
    OperandRule source{OperandRule::Kind::From, bits, 1, parts, false, true};
    source.special = true;
    OperandRule target{OperandRule::Kind::To, bits, 1, parts, false, true};
    target.sink = true;
    return be(mov, false, {{target, source}});
  }
  return {};
}

}  // namespace weft::ptx
