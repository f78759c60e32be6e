#include "runtime/ptx_emulator/shared_memory.h"

#include <algorithm>
#include <cstring>

#include "runtime/ptx_emulator/machine.h"

namespace weft::ptx {

void SharedMemory::reset(int64_t bytes, int count) {
  values.assign(bytes, 0);
  states.assign(bytes, 0);
  stores.assign(bytes, 0);
  arrived.clear();
  storeNumber = 0;
  warps = static_cast<size_t>(count);
  names.clear();
  writers.resize(bytes);
  readers.resize(bytes);
  restart();
}

void SharedMemory::check(const Warp &warp, int lane, uint64_t address, int bytes) const {
  if (address % bytes)
    warp.fail("misaligned access of " + std::to_string(bytes) + " bytes at shared address " + hex(address), lane);
  if (address > values.size() || static_cast<uint64_t>(bytes) > values.size() - address)
    warp.fail("access outside shared memory of " + std::to_string(values.size()) + " bytes, at shared address " +
                  hex(address),
              lane);
  warp.block.report.sharedBytes += bytes;
}

std::string SharedMemory::inWords(Agent agent) const {
  return agent < warps ? "warp " + std::to_string(agent) : names[agent - warps];
}

void SharedMemory::failUnreadable(const Warp &warp, int lane, uint64_t at) const {
  const uint8_t state = states[at];
  const std::string place = "read of shared memory at " + hex(at);
  if (!(state & Pending)) warp.fail(place + " that was never written", lane);
  if ((state & Lane) == CpAsync) warp.fail(place + " that a cp.async has not delivered", lane);
  if ((state & Lane) == Mbarrier) warp.fail(place + ", which is an mbarrier", lane);
  warp.fail(place + " that " + inWords(agentOf(writers[at])) + " has not delivered", lane);
}

void SharedMemory::failWriter(const Warp &warp, int lane, uint64_t at, const char *did) const {
  const Agent agent = agentOf(writers[at]);
  warp.fail("race: " + inWords(agent) + did + " shared address " + hex(at) +
                (agent < warps ? " and no barrier lies between" : " and no wait lies between"),
            lane);
}

uint64_t SharedMemory::read(const Warp &warp, int lane, uint64_t address, int bytes) {
  check(warp, lane, address, bytes);
  const Clock &seen = clocks[warp.number];
  const Stamp own = stampOf(warp.number, seen[warp.number]);
  // Neighbours mostly have the same readers.
  Stamp before = own, after = own;
  for (uint64_t at = address; at < address + bytes; ++at) {
    const uint8_t state = states[at];
    if (!(state & Defined)) failUnreadable(warp, lane, at);
    if (!known(writers[at], seen) && !knownTo(warp, lane, writers[at])) failWriter(warp, lane, at, " wrote");
    if ((state & Arrived) && ((state & Lane) != lane || agentOf(writers[at]) != static_cast<Agent>(warp.number)))
      warp.fail("read of shared memory at " + hex(at) + " that a cp.async of thread " +
                    std::to_string(32 * agentOf(writers[at]) + (state & Lane)) +
                    " has delivered to that thread alone: no barrier lies between",
                lane);
    if (readers[at] != before) after = withReader(before = readers[at], own, seen);
    readers[at] = after;
  }
  uint64_t value = 0;
  std::memcpy(&value, &values[address], bytes);
  return value;
}

void SharedMemory::beginStore() {
  if (++storeNumber == 0) {  // all around: no number is older than another
    std::fill(stores.begin(), stores.end(), 0);
    storeNumber = 1;
  }
}

void SharedMemory::checkReaders(const Warp &warp, int lane, uint64_t at, const Clock &seen, bool own) const {
  auto checkOne = [&](Stamp reader) {
    if (known(reader, seen) || (own && knownTo(warp, lane, reader))) return;
    const Agent agent = agentOf(reader);
    warp.fail("race: " + (agent < warps ? "another warp" : inWords(agent)) + " reads shared address " + hex(at) +
                  (agent < warps ? " and no barrier lies between" : " and no wait lies between"),
              lane);
  };
  if (!(readers[at] & isSet)) return checkOne(readers[at]);
  for (const Stamp reader : sets[readers[at] & ~isSet]) checkOne(reader);
}

/// The bytes become the warp's, if nobody else uses them.
void SharedMemory::claim(const Warp &warp, int lane, uint64_t address, int bytes, const uint8_t *value) {
  check(warp, lane, address, bytes);
  const Clock &seen = clocks[warp.number];
  const Stamp own = stampOf(warp.number, seen[warp.number]);
  for (uint64_t at = address; at < address + bytes; ++at) {
    const uint8_t state = states[at];
    if (state & Pending) {
      const std::string place = "write to shared address " + hex(at);
      if ((state & Lane) == Mbarrier) warp.fail(place + ", which is an mbarrier", lane);
      if ((state & Lane) == BulkCopy)
        warp.fail(place + " while " + inWords(agentOf(writers[at])) + " to it is under way", lane);
    }
    const bool once = stores[at] != storeNumber;
    // Where the value is the same, it makes no difference who comes first.
    const bool after = known(writers[at], seen) || knownTo(warp, lane, writers[at]);
    if ((!once || !after) && !(value && (state & Defined) && value[at - address] == values[at])) {
      if (!after) failWriter(warp, lane, at, " too wrote");
      warp.fail("race: two threads of the warp write shared address " + hex(at) + " at once", lane);
    }
    if ((readers[at] & isSet) || !known(readers[at], seen)) checkReaders(warp, lane, at, seen, true);
    if (state & Pending) warp.fail("write to shared address " + hex(at) + " while a cp.async to it is under way", lane);
    writers[at] = own;
    readers[at] = 0;
    stores[at] = storeNumber;
  }
}

void SharedMemory::write(const Warp &warp, int lane, uint64_t address, int bytes, const void *value) {
  claim(warp, lane, address, bytes, static_cast<const uint8_t *>(value));
  std::memcpy(&values[address], value, bytes);
  std::memset(&states[address], Defined | lane, bytes);
}

void SharedMemory::expect(const Warp &warp, int lane, uint64_t address, int bytes) {
  claim(warp, lane, address, bytes);
  std::memset(&states[address], Pending | CpAsync, bytes);
}

void SharedMemory::deliver(const Warp &warp, int lane, uint64_t address, int bytes, const void *value) {
  std::memcpy(&values[address], value, bytes);
  std::memset(&states[address], Defined | Arrived | lane, bytes);
  std::fill_n(&writers[address], bytes, stampOf(warp.number, clocks[warp.number][warp.number]));
  arrived.push_back({warp.number, lane, address, bytes});
}

void SharedMemory::deliver(uint64_t address, int bytes, const void *value, Stamp stamp) {
  std::memcpy(&values[address], value, bytes);
  std::memset(&states[address], Defined, bytes);
  std::fill_n(&writers[address], bytes, stamp);
}

// ---- the async proxy -------------------------------------------------------------------------

/// The thread that wrote the byte has since executed a fence, of which `seen` knows.
bool SharedMemory::fenced(uint64_t at, const Clock &seen) const {
  const Agent writer = agentOf(writers[at]);
  const uint32_t time = timeOf(writers[at]);
  if (writer >= warps || !time) return true;
  const auto &all = fences[writer];
  auto fence =
      std::lower_bound(all.begin(), all.end(), time, [](const Fence &own, uint32_t other) { return own.time < other; });
  for (; fence != all.end() && fence->time <= seen[writer]; ++fence)
    if (fence->lanes >> (states[at] & Lane) & 1) return true;
  return false;
}

void SharedMemory::readAsync(const AsyncAccess &by, uint64_t address, int bytes) {
  check(by.warp, by.lane, address, bytes);
  // What was found good last: most bytes are like those before them.
  Stamp good = 0;
  uint8_t goodState = Pending;
  for (uint64_t at = address; at < address + bytes; ++at) {
    const uint8_t state = states[at];
    if (readers[at] != by.stamp) readers[at] = withReader(readers[at], by.stamp, by.seen);
    if (writers[at] == good && state == goodState) continue;
    if (!(state & Defined)) failUnreadable(by.warp, by.lane, at);
    if (!known(writers[at], by.seen)) failWriter(by.warp, by.lane, at, " wrote");
    if (state & Arrived)
      by.warp.fail("read of shared memory at " + hex(at) + " that a cp.async of thread " +
                       std::to_string(32 * agentOf(writers[at]) + (state & Lane)) +
                       " has delivered to that thread alone: no barrier lies between",
                   by.lane);
    if (!fenced(at, by.seen))
      by.warp.fail("the async proxy reads shared address " + hex(at) + ", which thread " +
                       std::to_string(32 * agentOf(writers[at]) + (state & Lane)) +
                       " wrote: no fence.proxy.async of that thread and a barrier lie between",
                   by.lane);
    good = writers[at];
    goodState = state;
  }
}

void SharedMemory::expectAsync(const AsyncAccess &by, uint64_t address, int bytes) {
  check(by.warp, by.lane, address, bytes);
  for (uint64_t at = address; at < address + bytes; ++at) {
    const std::string place = "a bulk copy to shared address " + hex(at);
    if (states[at] & Pending) {
      const uint8_t why = states[at] & Lane;
      by.warp.fail(why == Mbarrier  ? place + ", which is an mbarrier"
                   : why == CpAsync ? place + " while a cp.async to it is under way"
                                    : place + " while " + inWords(agentOf(writers[at])) + " to it is under way",
                   by.lane);
    }
    if (!known(writers[at], by.seen)) failWriter(by.warp, by.lane, at, " too wrote");
    if (!fenced(at, by.seen))
      by.warp.fail(place + ", which thread " + std::to_string(32 * agentOf(writers[at]) + (states[at] & Lane)) +
                       " wrote: no fence.proxy.async of that thread and a barrier lie between",
                   by.lane);
    checkReaders(by.warp, by.lane, at, by.seen, false);
    states[at] = Pending | BulkCopy;
    writers[at] = by.stamp;
    readers[at] = 0;
  }
}

void SharedMemory::fenceAsync(int warp, uint32_t lanes) {
  auto &own = fences[warp];
  uint32_t &time = clocks[warp][warp];
  own.push_back({time, lanes});
  ++generation;
  if (++time > latestTime) return restart();
  // What is older is taken for fenced.
  if (own.size() > 4096) own.erase(own.begin(), own.begin() + 2048);
}

// ---- mbarriers -------------------------------------------------------------------------------

void SharedMemory::beginMbarrier(const Warp &warp, int lane, uint64_t address) {
  claim(warp, lane, address, 8);
  std::memset(&states[address], Pending | Mbarrier, 8);
}

void SharedMemory::endMbarrier(const Warp &warp, uint64_t address) {
  std::fill_n(&writers[address], 8, stampOf(warp.number, clocks[warp.number][warp.number]));
  std::memset(&states[address], 0, 8);
}

bool SharedMemory::knowsMbarrier(const Warp &warp, int lane, uint64_t address) const {
  return known(writers[address], clocks[warp.number]) || knownTo(warp, lane, writers[address]);
}

// ---- order -----------------------------------------------------------------------------------

/// What a cp.async delivered to one of the lanes is for all that come later.
void SharedMemory::publish(int warp, uint32_t lanes) {
  if (arrived.empty()) return;
  uint32_t copied = 0;
  std::erase_if(arrived, [&](const Range &range) {
    if (range.warp != warp || !(lanes >> range.lane & 1)) return false;
    copied |= 1u << range.lane;
    for (int at = 0; at < range.bytes; ++at) {
      uint8_t &state = states[range.address + at];
      if (state & Arrived) state = Defined | (state & Lane);
    }
    return true;
  });
  // For the async proxy too: between a cp.async and wgmma compilers fence behind the barrier, if at all.
  if (copied) fenceAsync(warp, copied);
}

void SharedMemory::release(int warp, uint32_t lanes, Clock &to) {
  publish(warp, lanes);
  if (sets.size() > mostSets) {
    forgetOldSets();
    mostSets = std::max<size_t>(4096, 2 * sets.size());
  }
  Clock &own = clocks[warp];
  if (lanes == 0xFFFFFFFFu) joinPartly(warp);
  to.join(own, agents());
  for (const Partly &part : partly[warp])
    if (!(lanes & ~part.lanes)) to.join(part.known, agents());
  ++generation;
  if (++own[warp] > latestTime) restart();
}

void SharedMemory::acquire(int warp, uint32_t lanes, const Clock &from) {
  ++generation;
  if (lanes == 0xFFFFFFFFu) return clocks[warp].join(from, agents());
  auto &all = partly[warp];
  auto part = std::find_if(all.begin(), all.end(), [&](const Partly &own) { return own.lanes == lanes; });
  if (part == all.end()) part = all.insert(all.end(), Partly{lanes, Clock()});
  part->known.join(from, agents());
}

void SharedMemory::joinPartly(int warp) {
  for (const Partly &part : partly[warp]) clocks[warp].join(part.known, agents());
  if (partly[warp].empty()) return;
  partly[warp].clear();
  ++generation;
}

void SharedMemory::warpBarrier(int warp) {
  publish(warp, 0xFFFFFFFFu);
  joinPartly(warp);
}

Clock SharedMemory::clock(int warp, int lane) const {
  Clock own = clocks[warp];
  for (const Partly &part : partly[warp])
    if (part.lanes >> lane & 1) own.join(part.known, agents());
  return own;
}

bool SharedMemory::knownTo(const Warp &warp, int lane, Stamp stamp) const {
  for (const Partly &part : partly[warp.number])
    if ((part.lanes >> lane & 1) && known(stamp, part.known)) return true;
  return false;
}

void SharedMemory::learn(int warp, Agent agent, uint32_t time) {
  clocks[warp][agent] = std::max(clocks[warp][agent], time);
  ++generation;
}

Agent SharedMemory::newAgent(const Warp &warp, int lane, const std::string &name) {
  if (agents() == mostAgents) warp.fail("more mbarriers in one block than the emulator can tell apart", lane);
  names.push_back(name);
  return agents() - 1;
}

/// `before` with one more reader; without those that come before it.
Stamp SharedMemory::withReader(Stamp before, Stamp own, const Clock &seen) {
  if (!(before & isSet) && known(before, seen)) return own;
  if (before == last.before && own == last.own && generation == last.generation) return last.after;
  std::vector<Stamp> all{own};
  auto keep = [&](Stamp reader) {
    if (!known(reader, seen) && agentOf(reader) != agentOf(own)) all.push_back(reader);
  };
  if (before & isSet) {
    for (const Stamp reader : sets[before & ~isSet]) keep(reader);
  } else {
    keep(before);
  }
  std::sort(all.begin(), all.end());
  Stamp after = own;
  if (all.size() > 1) {
    auto found = numbers.find(all);
    if (found == numbers.end()) {
      found = numbers.emplace(all, isSet | static_cast<Stamp>(sets.size())).first;
      sets.push_back(std::move(all));
    }
    after = found->second;
  }
  last = {before, own, after, generation};
  return after;
}

/// Of each set only those readers stay that some warp does not know of.
void SharedMemory::forgetOldSets() {
  Clock all = clocks[0];
  for (const Clock &clock : clocks) all.meet(clock, agents());
  auto old = std::move(sets);
  sets.clear();
  numbers.clear();
  std::vector<Stamp> now(old.size(), 0);
  std::vector<bool> done(old.size(), false);
  for (Stamp &reader : readers) {
    if (!(reader & isSet)) continue;
    const size_t number = reader & ~isSet;
    if (!done[number]) {
      done[number] = true;
      std::erase_if(old[number], [&](Stamp stamp) { return known(stamp, all); });
      if (old[number].size() == 1) now[number] = old[number][0];
      if (old[number].size() > 1) {
        auto [found, made] = numbers.emplace(old[number], isSet | static_cast<Stamp>(sets.size()));
        if (made) sets.push_back(old[number]);
        now[number] = found->second;
      }
    }
    reader = now[number];
  }
  last = {};
}

void SharedMemory::restart() {
  std::fill(writers.begin(), writers.end(), 0);
  std::fill(readers.begin(), readers.end(), 0);
  clocks.assign(warps, Clock());
  for (size_t warp = 0; warp < warps; ++warp) clocks[warp][static_cast<Agent>(warp)] = 1;
  partly.assign(warps, {});
  fences.assign(warps, {});
  sets.clear();
  numbers.clear();
  last = {};
  mostSets = 4096;
}

}  // namespace weft::ptx
