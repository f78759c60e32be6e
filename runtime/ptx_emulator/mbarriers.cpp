#include "runtime/ptx_emulator/mbarriers.h"

#include "runtime/ptx_emulator/machine.h"

namespace weft::ptx {
namespace {

std::string named(const Mbarrier &own) { return "the mbarrier at shared address " + hex(own.address); }

}  // namespace

void Mbarriers::begin(Warp &warp, int lane, uint64_t address, uint64_t count) {
  if (count < 1 || count > mostCount)
    warp.fail("mbarrier.init with a count of " + std::to_string(count) + ", expected 1 to " + std::to_string(mostCount),
              lane);
  SharedMemory &shared = warp.block.shared;
  if (auto found = all.find(address); found != all.end() && found->second.live)
    warp.fail(named(found->second) + " is there already: mbarrier.inval comes first", lane);
  shared.beginMbarrier(warp, lane, address);
  auto [found, made] = all.try_emplace(address);
  Mbarrier &own = found->second;
  if (made) {
    own.address = address;
    own.agent = shared.newAgent(warp, lane, "a bulk copy for the mbarrier at " + hex(address));
  }
  own.live = true;
  own.phase += own.phase % 2;
  own.expected = own.pending = static_cast<uint32_t>(count);
  own.bytes = own.underWay = 0;
  own.gathered = own.complete = Clock();
}

void Mbarriers::end(Warp &warp, int lane, uint64_t address) {
  Mbarrier &own = at(warp, lane, address);
  if (own.underWay) warp.fail(named(own) + " ends while copies are under way that it waits for", lane);
  own.live = false;
  warp.block.shared.endMbarrier(warp, address);
}

Mbarrier &Mbarriers::at(const Warp &warp, int lane, uint64_t address) {
  if (address % 8) warp.fail("misaligned mbarrier at shared address " + hex(address), lane);
  auto found = all.find(address);
  if (found == all.end() || !found->second.live)
    warp.fail("there is no mbarrier at shared address " + hex(address) + ": mbarrier.init comes first", lane);
  if (!warp.block.shared.knowsMbarrier(warp, lane, address))
    warp.fail("race: another warp initialised " + named(found->second) + " and no barrier lies between", lane);
  return found->second;
}

void Mbarriers::expect(const Warp &warp, int lane, Mbarrier &own, uint64_t bytes) {
  ++warp.block.events;
  if (bytes > mostCount || own.bytes + static_cast<int64_t>(bytes) > mostCount)
    warp.fail(named(own) + " expects " + std::to_string(bytes) + " bytes more, and " + std::to_string(own.bytes) +
                  " are pending: at most " + std::to_string(mostCount) + " may be",
              lane);
  own.bytes += static_cast<int64_t>(bytes);
}

void Mbarriers::expectArrival(const Warp &warp, int lane, Mbarrier &own) {
  if (own.pending == mostCount) warp.fail(named(own) + " expects too many arrivals", lane);
  ++own.pending;
}

void Mbarriers::arrive(Warp &warp, int lane, Mbarrier &own, uint64_t count, bool drop, bool releases) {
  ++warp.block.events;
  if (count < 1 || count > own.pending)
    warp.fail(std::to_string(count) + " arrivals at " + named(own) + ", whose phase " + std::to_string(own.phase) +
                  " waits for " + std::to_string(own.pending),
              lane);
  own.pending -= static_cast<uint32_t>(count);
  if (drop) own.expected -= std::min(own.expected, static_cast<uint32_t>(count));
  if (releases) warp.block.shared.release(warp.number, 1u << lane, own.gathered);
  completeIfDone(warp, lane, own);
}

void Mbarriers::deliver(Warp &warp, int lane, Mbarrier &own, int64_t bytes) {
  ++warp.block.events;
  own.bytes -= bytes;
  if (own.bytes < -static_cast<int64_t>(mostCount))
    warp.fail(named(own) + " gets more than " + std::to_string(mostCount) + " bytes that it does not expect", lane);
  completeIfDone(warp, lane, own);
}

void Mbarriers::completeIfDone(Warp &warp, int lane, Mbarrier &own) {
  if (own.pending || own.bytes) return;
  if (own.underWay)
    warp.fail(named(own) + " completes phase " + std::to_string(own.phase) +
                  " while copies are under way that were issued in it: it expects too few bytes or arrivals",
              lane);
  if (own.phase + 2 > latestTime) warp.fail("too many phases of " + named(own), lane);
  SharedMemory &shared = warp.block.shared;
  own.complete.join(own.gathered, shared.agents());
  own.gathered = Clock();
  own.complete[own.agent] = ++own.phase;
  own.pending = own.expected;
  for (Warp &other : warp.block.warps)
    if (other.wait == Warp::Wait::Mbarrier) warp.block.wake(other);
}

bool Mbarriers::testState(const Warp &warp, int lane, const Mbarrier &own, uint64_t state) {
  const uint64_t phase = state & 0xFFFFFFFFu;
  if (state >> 32 != own.address) warp.fail("a wait at " + named(own) + " with a state that is not of it", lane);
  if (phase + 1 < own.phase || phase > own.phase)
    warp.fail("a wait at " + named(own) + " for phase " + std::to_string(phase) + ", and its phase is " +
                  std::to_string(own.phase) + ": only this one and the one before can be waited for",
              lane);
  return phase != own.phase;
}

bool Mbarriers::testParity(const Warp &warp, int lane, const Mbarrier &own, uint64_t parity) {
  if (parity == 0xFFFFFFFFu) parity = 1;  // a predicate made a number by its sign, as compilers write it
  if (parity > 1) warp.fail("a parity of " + std::to_string(parity) + ", expected 0 or 1", lane);
  return own.phase % 2 != parity;
}

std::string Mbarriers::describe(uint64_t address) const {
  auto found = all.find(address);
  if (found == all.end()) return "an mbarrier";
  const Mbarrier &own = found->second;
  return named(own) + " (phase " + std::to_string(own.phase) + ", " + std::to_string(own.pending) + " of " +
         std::to_string(own.expected) + " arrivals pending, " + std::to_string(own.bytes) + " bytes pending)";
}

}  // namespace weft::ptx
