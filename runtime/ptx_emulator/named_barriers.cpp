#include "runtime/ptx_emulator/named_barriers.h"

#include <bit>

#include "runtime/ptx_emulator/machine.h"

namespace weft::ptx {

void NamedBarriers::arrive(Warp &warp, uint64_t id, uint64_t threads, bool stays) {
  Block &block = warp.block;
  const int lane = std::countr_zero(warp.alive), warps = static_cast<int>(block.warps.size());
  if (id >= all.size()) warp.fail("barrier " + std::to_string(id) + ": a block has 16, from 0", lane);
  const std::string name = "barrier " + std::to_string(id);
  if (threads % 32) warp.fail(name + " of " + std::to_string(threads) + " threads: no multiple of 32", lane);
  if (threads > static_cast<uint64_t>(32 * warps))
    warp.fail(name + " of " + std::to_string(threads) + " threads: the block has " +
                  std::to_string(block.launch.threads),
              lane);
  if (!threads && !stays) warp.fail(name + " is arrived at without a count of threads", lane);
  Barrier &own = all[id];
  const int expected = threads ? static_cast<int>(threads / 32) : warps;
  if (own.arrived && own.expected != expected)
    warp.fail(name + " is of " + std::to_string(32 * expected) + " threads here, and of " +
                  std::to_string(32 * own.expected) + " where warp " + std::to_string(std::countr_zero(own.arrived)) +
                  " came to it",
              lane);
  const uint32_t bit = 1u << warp.number;
  if (own.arrived & bit) warp.fail("the warp comes to " + name + " again before the others have come", lane);
  own.expected = expected;
  own.whole = !threads;
  own.arrived |= bit;
  if (stays) {
    own.staying |= bit;
    warp.wait = Warp::Wait::Barrier;
    warp.waitPlace = id;
  }
  ++block.events;
  block.shared.release(warp.number, 0xFFFFFFFFu, own.gathered);
  if (std::popcount(own.arrived) < expected) return;
  ++block.report.barriers;
  for (uint32_t left = own.staying; left; left &= left - 1) {
    Warp &other = block.warps[static_cast<size_t>(std::countr_zero(left))];
    block.shared.acquire(other.number, 0xFFFFFFFFu, own.gathered);
    block.wake(other);
  }
  warp.yield();
  own = {};
}

std::string NamedBarriers::describe(uint64_t id, const Warp &waiter) const {
  const Barrier &own = all[id];
  if (own.whole)
    for (const Warp &warp : waiter.block.warps)
      if (!warp.alive && !(own.arrived >> warp.number & 1))
        return "warp " + std::to_string(warp.number) + " has returned and never comes to this barrier";
  return "barrier " + std::to_string(id) + " has seen " + std::to_string(32 * std::popcount(own.arrived)) + " of " +
         std::to_string(32 * own.expected) + " threads";
}

}  // namespace weft::ptx
