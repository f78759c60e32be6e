#include "runtime/ptx_emulator/bulk_copies.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "runtime/ptx_emulator/machine.h"
#include "runtime/ptx_emulator/numbers.h"

namespace weft::ptx {
namespace {

constexpr int piece = 16;  // of shared memory, which swizzles move as a whole

/// body(offset, shared address) for each piece.
template <class Body>
void eachPiece(const BulkRegion &region, Body body) {
  for (int64_t offset = 0; offset < region.bytes; offset += piece)
    body(offset, swizzled(region.shared + static_cast<uint64_t>(offset), region.swizzle));
}

/// What lies outside a tensor is zero.
std::vector<uint8_t> fetch(const Warp &warp, int lane, const BulkRegion &region) {
  std::vector<uint8_t> data(static_cast<size_t>(region.bytes), 0);
  for (const BulkRegion::Row &row : region.rows)
    std::memcpy(&data[static_cast<size_t>(row.offset)],
                warp.block.global(warp, lane, row.address, row.bytes, GlobalRaces::Read),
                static_cast<size_t>(row.bytes));
  return data;
}

template <class Word, class Add>
void addAll(uint8_t *to, const uint8_t *from, int bytes, Add add) {
  for (int at = 0; at + static_cast<int>(sizeof(Word)) <= bytes; at += sizeof(Word)) {
    Word x;
    std::memcpy(&x, from + at, sizeof x);
    std::atomic_ref<Word> place(*reinterpret_cast<Word *>(to + at));
    Word before = place.load();
    while (!place.compare_exchange_weak(before, add(before, x))) {
    }
  }
}

}  // namespace

void BulkCopies::load(Warp &warp, int lane, const BulkRegion &region, uint64_t barrier) {
  Block &block = warp.block;
  Mbarrier &own = block.mbarriers.at(warp, lane, barrier);
  const Clock seen = block.shared.clock(warp.number, lane);
  const AsyncAccess access{warp, lane, seen, stampOf(own.agent, own.phase + 1)};
  eachPiece(region, [&](int64_t, uint64_t address) { block.shared.expectAsync(access, address, piece); });
  // Even where it is read later: the addresses must be good now.
  std::vector<uint8_t> data = fetch(warp, lane, region);
  ++own.underWay;
  loads[barrier] = {&warp, lane, warp.current, own.agent, own.phase + 1};
  const bool late = block.drawn(2) == 1;
  block.later(warp, [&warp, &block, &own, lane, region, late, stamp = access.stamp, data = std::move(data)]() mutable {
    if (late) {
      const int64_t counted = block.report.globalBytes;
      data = fetch(warp, lane, region);
      block.report.globalBytes = counted;
    }
    eachPiece(region, [&](int64_t offset, uint64_t address) {
      block.shared.deliver(address, piece, &data[static_cast<size_t>(offset)], stamp);
    });
    --own.underWay;
    block.mbarriers.deliver(warp, lane, own, region.bytes);
  });
}

void BulkCopies::store(Warp &warp, int lane, const BulkRegion &region, Effect effect) {
  Block &block = warp.block;
  OfWarp &own = all[warp.number];
  if (!own.agent) own.agent = block.shared.newAgent(warp, lane, "a bulk copy of warp " + std::to_string(warp.number));
  if (++own.stores >= latestTime) warp.fail("too many bulk copies", lane);
  const Clock seen = block.shared.clock(warp.number, lane);
  const AsyncAccess access{warp, lane, seen, stampOf(own.agent, own.stores)};
  eachPiece(region, [&](int64_t, uint64_t address) { block.shared.readAsync(access, address, piece); });
  // What is written must lie in memory even where it is written later.
  for (const BulkRegion::Row &row : region.rows) block.checkGlobal(warp, lane, row.address, row.bytes);
  Store store{region, effect, own.stores, {}};
  if (!block.drawn(2)) read(warp, store);
  own.threads[lane].open.push_back(std::move(store));
}

void BulkCopies::read(const Warp &warp, Store &own) {
  if (own.read) return;
  own.read = true;
  own.data.resize(static_cast<size_t>(own.region.bytes));
  eachPiece(own.region, [&](int64_t offset, uint64_t address) {
    std::memcpy(&own.data[static_cast<size_t>(offset)], warp.block.shared.raw(address), piece);
  });
}

void BulkCopies::write(const Warp &warp, int lane, Store &own) {
  read(warp, own);
  const int64_t counted = warp.block.report.globalBytes;
  for (const BulkRegion::Row &row : own.region.rows) {
    const uint8_t *from = &own.data[static_cast<size_t>(row.offset)];
    if (own.effect == Effect::Store) {
      warp.block.storeGlobal(warp, lane, row.address, row.bytes, from);
      continue;
    }
    uint8_t *to = warp.block.global(warp, lane, row.address, row.bytes, GlobalRaces::Atomic);
    if (own.effect == Effect::AddF32)
      addAll<uint32_t>(to, from, row.bytes,
                       [](uint32_t x, uint32_t y) { return static_cast<uint32_t>(asBits(asFloat(x) + asFloat(y))); });
    else if (own.effect == Effect::AddF16)
      addAll<uint16_t>(to, from, row.bytes,
                       [](uint16_t x, uint16_t y) { return static_cast<uint16_t>(toF16(fromF16(x) + fromF16(y))); });
    else
      addAll<uint16_t>(to, from, row.bytes,
                       [](uint16_t x, uint16_t y) { return static_cast<uint16_t>(toBf16(fromBf16(x) + fromBf16(y))); });
  }
  warp.block.report.globalBytes = counted;
}

void BulkCopies::commit(Warp &warp, int lane) {
  auto found = all.find(warp.number);
  if (found == all.end()) return;
  Thread &thread = found->second.threads[lane];
  thread.groups.push_back(std::move(thread.open));
  thread.open.clear();
}

void BulkCopies::wait(Warp &warp, int lane, Thread &thread, uint64_t most, bool reading) {
  for (size_t at = 0; at + most < thread.groups.size(); ++at)
    for (Store &store : thread.groups[at]) {
      read(warp, store);
      store.waited = true;
    }
  // What is read is written at any time.
  for (bool writes = !reading || warp.block.drawn(2); writes && thread.groups.size() > most; thread.groups.pop_front())
    for (Store &store : thread.groups.front()) write(warp, lane, store);
}

void BulkCopies::wait(Warp &warp, uint32_t lanes, uint64_t most, bool reading) {
  auto found = all.find(warp.number);
  if (found == all.end()) return;
  OfWarp &own = found->second;
  uint32_t done = own.stores;
  auto check = [&](const Store &store) {
    if (!store.waited) done = std::min(done, store.number - 1);
  };
  for (auto &[lane, thread] : own.threads) {
    if (lanes >> lane & 1) wait(warp, lane, thread, most, reading);
    for (const Store &store : thread.open) check(store);
    for (const auto &group : thread.groups)
      for (const Store &store : group) check(store);
  }
  if (!own.agent) return;
  Clock known;
  known[own.agent] = done;
  warp.block.shared.acquire(warp.number, lanes == warp.alive ? 0xFFFFFFFFu : lanes, known);
}

void BulkCopies::finish(std::vector<Warp> &warps) {
  for (auto &[barrier, last] : loads) {
    const bool known = std::any_of(warps.begin(), warps.end(), [&](const Warp &warp) {
      for (int lane = 0; lane < 32; ++lane)
        if (warp.block.shared.clock(warp.number, lane)[last.agent] >= last.phase) return true;
      return false;
    });
    if (known) continue;
    last.warp->current = last.instruction;
    last.warp->fail("no warp has waited for this bulk copy when all have returned", last.lane);
  }
  for (auto &[number, own] : all) {
    Warp &warp = warps[static_cast<size_t>(number)];
    for (auto &[lane, thread] : own.threads) {
      if (!thread.open.empty()) warp.fail("returned without committing its bulk copy", lane);
      for (auto &group : thread.groups)
        for (Store &store : group) {
          if (!store.waited) warp.fail("returned without waiting for its bulk copy from shared memory", lane);
          write(warp, lane, store);
        }
    }
  }
}

}  // namespace weft::ptx
