// Loads, stores, atomics and cp.async. Semantics: PTX ISA manual, 9.7.8.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "runtime/ptx_emulator/handlers.h"
#include "runtime/ptx_emulator/numbers.h"

namespace weft::ptx {
namespace {

void checkAlignment(const Warp &warp, int lane, uint64_t address, int bytes, const char *space) {
  if (address % bytes)
    warp.fail("misaligned access of " + std::to_string(bytes) + " bytes at " + space + " address " + hex(address),
              lane);
}

void load(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes from = addresses(warp, in.operands[1][0], lanes);
  const auto &to = in.operands[0];
  const int bytes = bitsOf(in.type) / 8, whole = bytes * static_cast<int>(to.size());
  uint8_t values[32][16];
  each(lanes, [&](int lane) {
    const uint64_t first = from[lane];
    if (in.variant == Global) {
      checkAlignment(warp, lane, first, whole, "global");
      std::memcpy(values[lane], warp.block.global(warp, lane, first, whole, GlobalRaces::Read), whole);
    } else if (in.variant == Shared) {
      checkAlignment(warp, lane, first, whole, "shared");
      for (int at = 0; at < whole; at += bytes) {
        const uint64_t part = warp.block.shared.read(warp, lane, first + at, bytes);
        std::memcpy(values[lane] + at, &part, bytes);
      }
    } else {
      const auto &parameters = warp.block.launch.parameters;
      checkAlignment(warp, lane, first, whole, "parameter");
      if (first > parameters.size() || static_cast<size_t>(whole) > parameters.size() - first)
        warp.fail("read past the parameters", lane);
      std::memcpy(values[lane], &parameters[first], whole);
    }
  });
  for (size_t part = 0; part < to.size(); ++part) {
    Lanes &own = warp.write(to[part], lanes);
    // A register of more bits than the type is filled by its sign.
    const int bits = warp.bitsOf(to[part]);
    each(lanes, [&](int lane) {
      uint64_t value = 0;
      std::memcpy(&value, values[lane] + part * bytes, bytes);
      own[lane] = isSigned(in.type) ? truncated(static_cast<uint64_t>(extended(value, in.type)), bits) : value;
    });
  }
  if (in.variant == Shared) warp.block.countBanks(from, lanes, whole);
}

void store(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes to = addresses(warp, in.operands[0][0], lanes);
  const auto &from = in.operands[1];
  const int bytes = bitsOf(in.type) / 8, whole = bytes * static_cast<int>(from.size());
  uint8_t values[32][16];
  for (size_t part = 0; part < from.size(); ++part) {
    const Lanes &own = warp.read(from[part], lanes);
    each(lanes, [&](int lane) { std::memcpy(values[lane] + part * bytes, &own[lane], bytes); });
  }
  if (in.variant == Shared) warp.block.shared.beginStore();
  each(lanes, [&](int lane) {
    if (in.variant == Global) {
      checkAlignment(warp, lane, to[lane], whole, "global");
      warp.block.storeGlobal(warp, lane, to[lane], whole, values[lane]);
    } else {
      checkAlignment(warp, lane, to[lane], whole, "shared");
      for (int at = 0; at < whole; at += bytes)
        warp.block.shared.write(warp, lane, to[lane] + at, bytes, values[lane] + at);
    }
  });
  if (in.variant == Shared) warp.block.countBanks(to, lanes, whole);
}

/// atom.global.add.f32 d, [a], b and red.global.add.f32 [a], b.
void atomicAdd(Warp &warp, const Instruction &in, uint32_t lanes) {
  const bool returns = in.operands.size() == 3;
  const Lanes to = addresses(warp, in.operands[returns ? 1 : 0][0], lanes);
  const Lanes x = warp.read(in.operands[returns ? 2 : 1][0], lanes);
  Lanes old{};
  each(lanes, [&](int lane) {
    checkAlignment(warp, lane, to[lane], 4, "global");
    auto *value = reinterpret_cast<float *>(warp.block.global(warp, lane, to[lane], 4, GlobalRaces::Atomic));
    old[lane] = asBits(std::atomic_ref<float>(*value).fetch_add(asFloat(x[lane])));
  });
  if (returns) assign(warp, in, lanes, [&](int lane) { return old[lane]; });
}

/// atom.global.inc.u32 d, [a], b: one more, after b zero.
void atomicIncrement(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes to = addresses(warp, in.operands[1][0], lanes);
  const Lanes most = warp.read(in.operands[2][0], lanes);
  Lanes old{};
  each(lanes, [&](int lane) {
    checkAlignment(warp, lane, to[lane], 4, "global");
    auto *value = reinterpret_cast<uint32_t *>(warp.block.global(warp, lane, to[lane], 4, GlobalRaces::Atomic));
    const std::atomic_ref<uint32_t> count(*value);
    uint32_t own = count.load();
    while (!count.compare_exchange_weak(own, own >= static_cast<uint32_t>(most[lane]) ? 0 : own + 1)) {
    }
    old[lane] = own;
  });
  assign(warp, in, lanes, [&](int lane) { return old[lane]; });
}

/// red.global.add.v2.f32 [a], {b, c} and of four: each element by itself.
void atomicAdds(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes to = addresses(warp, in.operands[0][0], lanes);
  const auto &from = in.operands[1];
  const int whole = 4 * static_cast<int>(from.size());
  each(lanes, [&](int lane) { checkAlignment(warp, lane, to[lane], whole, "global"); });
  for (size_t part = 0; part < from.size(); ++part) {
    const Lanes x = warp.read(from[part], lanes);
    each(lanes, [&](int lane) {
      auto *value =
          reinterpret_cast<float *>(warp.block.global(warp, lane, to[lane] + 4 * part, 4, GlobalRaces::Atomic));
      std::atomic_ref<float>(*value).fetch_add(asFloat(x[lane]));
    });
  }
}

void fetch(const Warp &warp, Warp::Copy &copy) {
  if (copy.read)
    std::memcpy(copy.data, warp.block.global(warp, copy.lane, copy.from, copy.read, GlobalRaces::Read), copy.read);
}

void fetchLate(const Warp &warp, Warp::Copy &copy) {
  if (!copy.late) return;
  fetch(warp, copy);
  warp.block.report.globalBytes -= copy.read;
}

/// cp.async [shared], [global], bytes, bytes to read; the rest is filled with zeros. The source is read at some time
/// between here and the wait.
template <bool CacheAll>
void cpAsync(Warp &warp, const Instruction &in, uint32_t lanes) {
  const Lanes to = addresses(warp, in.operands[0][0], lanes), from = addresses(warp, in.operands[1][0], lanes);
  const int bytes = static_cast<int>(in.operands[2][0].value);
  if (bytes != 16 && !(CacheAll && (bytes == 4 || bytes == 8)))
    warp.fail("cp.async of " + std::to_string(bytes) + " bytes", __builtin_ctz(lanes));
  const Lanes size = warp.read(in.operands[in.operands.size() > 3 ? 3 : 2][0], lanes);
  warp.block.shared.beginStore();
  each(lanes, [&](int lane) {
    if (size[lane] > static_cast<uint64_t>(bytes))
      warp.fail("cp.async of " + std::to_string(size[lane]) + " bytes into " + std::to_string(bytes), lane);
    if (from[lane] % bytes) warp.fail("misaligned cp.async source", lane);
    Warp::Copy copy{lane, to[lane], from[lane], bytes, static_cast<int>(size[lane]), warp.block.drawn(2) == 1, {}};
    // Even where it is read later: the address must be good now.
    fetch(warp, copy);
    warp.block.shared.expect(warp, lane, copy.to, bytes);
    warp.open.push_back(copy);
  });
  warp.block.countBanks(to, lanes, bytes);
}
void cpCommit(Warp &warp, const Instruction &, uint32_t lanes) {
  // Groups are those of the warp.
  if (lanes != warp.alive) warp.fail("only part of the warp commits its cp.async", __builtin_ctz(warp.alive & ~lanes));
  warp.groups.push_back(std::move(warp.open));
  warp.open.clear();
}
void cpWait(Warp &warp, const Instruction &in, uint32_t lanes) {
  if (lanes != warp.alive)
    warp.fail("only part of the warp waits for its cp.async", __builtin_ctz(warp.alive & ~lanes));
  while (warp.groups.size() > in.operands[0][0].value) {
    for (Warp::Copy &copy : warp.groups.front()) {
      fetchLate(warp, copy);
      warp.block.shared.deliver(warp, copy.lane, copy.to, copy.bytes, copy.data);
    }
    warp.groups.pop_front();
  }
}

/// A vector is of at most 16 bytes.
int mostParts(int bits) { return 128 / bits; }

}  // namespace

std::vector<Warp::Copy> takeCopies(Warp &warp, int lane) {
  std::vector<Warp::Copy> taken;
  auto take = [&](std::vector<Warp::Copy> &from) {
    std::erase_if(from, [&](const Warp::Copy &copy) {
      if (copy.lane == lane) taken.push_back(copy);
      return copy.lane == lane;
    });
  };
  for (auto &group : warp.groups) take(group);
  take(warp.open);
  return taken;
}

void deliverCopy(const Warp &warp, Warp::Copy &copy, Stamp stamp) {
  fetchLate(warp, copy);
  warp.block.shared.deliver(copy.to, copy.bytes, copy.data, stamp);
}

std::optional<Signature> decodeMemory(const Opcode &opcode, Instruction &in) {
  static const std::map<std::string, std::pair<Handler, Signature>> whole = {
      {"cp.async.commit_group", {cpCommit, {}}},
      {"cp.async.wait_group", {cpWait, {{number()}}}},
      {"cp.async.cg.shared.global", {cpAsync<false>, {{address(32), address(64), number(), from(32)}, 1}}},
      {"cp.async.ca.shared.global", {cpAsync<true>, {{address(32), address(64), number(), from(32)}, 1}}},
      {"atom.global.add.f32", {atomicAdd, {{to(32), address(64), from(32)}}}},
      {"atom.relaxed.gpu.global.add.f32", {atomicAdd, {{to(32), address(64), from(32)}}}},
      {"atom.global.inc.u32", {atomicIncrement, {{to(32), address(64), from(32)}}}},
      {"atom.relaxed.gpu.global.inc.u32", {atomicIncrement, {{to(32), address(64), from(32)}}}},
      {"red.global.add.f32", {atomicAdd, {{address(64), from(32)}}}},
      {"red.relaxed.gpu.global.add.f32", {atomicAdd, {{address(64), from(32)}}}}};
  if (opcode.text == "red.relaxed.gpu.global.add.v2.f32" || opcode.text == "red.relaxed.gpu.global.add.v4.f32") {
    const int parts = opcode.text.find("v2") != std::string::npos ? 2 : 4;
    in.needs = Instruction::Needs::Sm90;
    in.execute = atomicAdds;
    return Signature{{address(64), from(32, parts)}};
  }
  if (auto found = whole.find(opcode.text); found != whole.end()) {
    in.execute = found->second.first;
    return found->second.second;
  }
  const bool loads = opcode[0] == "ld";
  if ((!loads && opcode[0] != "st") || opcode.size() < 3) return {};
  static const std::map<std::string, int> spaces = {
      {"param", Param}, {"global", Global}, {"shared", Shared}, {"shared::cta", Shared}};
  auto space = spaces.find(opcode[1]);
  // ld.global.nc: nobody writes what is read; whether another block does is looked at, as of every load.
  const bool constant = loads && opcode[1] == "global" && opcode[2] == "nc";
  const size_t words = opcode.size() - constant;
  const std::string vector = words == 4 ? std::string(opcode[constant ? 3 : 2]) : "";
  const int parts = words == 4 ? (vector == "v2" ? 2 : vector == "v4" ? 4 : 0) : 1;
  in.type = typeOf(opcode.words.back());
  const int bits = bitsOf(in.type);
  if (space == spaces.end() || words > 4 || words < 3 || bits < 8 || !parts || parts > mostParts(bits) ||
      (!loads && space->second == Param))
    return {};
  in.variant = space->second;
  in.execute = loads ? load : store;
  const OperandRule place = address(in.variant == Param ? 0 : in.variant == Shared ? 32 : 64);
  const bool wider = !isFloat(in.type);
  if (loads) return Signature{{{OperandRule::Kind::To, bits, parts, parts, wider}, place}};
  return Signature{{place, {OperandRule::Kind::From, bits, parts, parts, wider}}};
}

}  // namespace weft::ptx
