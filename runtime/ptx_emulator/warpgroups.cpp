#include "runtime/ptx_emulator/warpgroups.h"

#include <algorithm>
#include <string>

#include "runtime/ptx_emulator/machine.h"

namespace weft::ptx {

Warp &Warpgroup::warpOf(int index) const { return block.warps[static_cast<size_t>(4 * number + index)]; }

// ---- wgmma -----------------------------------------------------------------------------------

/// A fence lies between all else that wrote the registers and this.
void Warpgroup::checkRegisters(Warp &warp, const Instruction &in) const {
  const RegistersInFlight &own = *warp.inFlight;
  if (!own.fences) warp.fail("no wgmma.fence comes before the first wgmma.mma_async", 0);
  for (size_t place = 0; place < 2; ++place)
    for (const Operand &part : in.operands[place]) {
      if (part.kind != Operand::Kind::Register || (place == 1 && in.operands[1].size() == 1)) continue;
      const std::string &name = block.kernel.registerNames[part.index];
      if (own.product[part.index]) {
        if (own.accumulates[part.index] != (place == 0))
          warp.fail("register " + name + " is in use by a wgmma.mma_async under way, in another role", 0);
      } else if (own.written[part.index] > own.fences) {
        warp.fail("no wgmma.fence lies between the last write of register " + name + " and wgmma.mma_async", 0);
      }
    }
}

void Warpgroup::multiply(Warp &warp, const Instruction &in, uint64_t left, uint64_t right, bool accumulates) {
  if (static_cast<size_t>(4 * number + 3) >= block.warps.size()) warp.fail("a warpgroup of fewer than four warps", 0);
  checkRegisters(warp, in);
  if (!coming.warps) coming = {&in, 0, left, right, accumulates};
  if (coming.instruction != &in)
    warp.fail("another warp of the warpgroup has come to another wgmma.mma_async, at line " +
                  std::to_string(coming.instruction->line),
              0);
  if (coming.left != left || coming.right != right || coming.accumulates != accumulates)
    warp.fail("the warps of the warpgroup name different matrices, or scales of D", 0);
  coming.warps |= 1u << warp.number % 4;
  if (coming.warps != 15) {
    warp.wait = Warp::Wait::Warpgroup;
    return;
  }
  coming.warps = 0;
  begin(warp);
  for (int index = 0; index < 4; ++index) block.wake(warpOf(index));
  warp.yield();
}

void Warpgroup::begin(Warp &warp) {
  const Instruction &in = *coming.instruction;
  SharedMemory &shared = block.shared;
  if (!agent) agent = shared.newAgent(warp, 0, "wgmma of warpgroup " + std::to_string(number));
  if (++issued >= latestTime) warp.fail("too many wgmma.mma_async", 0);
  Product product{&in, coming.accumulates, {}, {}};
  Clock seen = shared.clock(4 * number);
  for (int index = 1; index < 4; ++index) seen.meet(shared.clock(4 * number + index), shared.agents());
  const AsyncAccess access{warp, 0, seen, stampOf(agent, issued)};
  auto take = [&](std::vector<uint32_t> &to, uint64_t descriptor, int rows, bool right) {
    to = addressesOf(warp, descriptor, rows, transposes(in, right));
    for (const uint32_t address : to) shared.readAsync(access, address, 16);
  };
  if (in.operands[1].size() == 1) take(product.left, coming.left, 64, false);
  take(product.right, coming.right, columnsOf(in), true);
  for (int index = 0; index < 4; ++index) {
    Warp &other = warpOf(index);
    RegistersInFlight &own = *other.inFlight;
    for (size_t place = 0; place < 2; ++place)
      for (const Operand &part : in.operands[place]) {
        if (part.kind != Operand::Kind::Register || (place == 1 && in.operands[1].size() == 1)) continue;
        if (!own.product[part.index]) {
          if (place == 1 || product.accumulates) other.read(part, 0xFFFFFFFFu);
          own.all.push_back(part.index);
        }
        own.product[part.index] = issued;
        own.accumulates[part.index] = place == 0;
        other.defined[part.index] = 0;
      }
  }
  queue.push_back(std::move(product));
  // At any time until it is waited for.
  if (!block.drawn(2)) executeUntil(issued);
}

void Warpgroup::executeUntil(uint32_t last) {
  const std::array<Warp *, 4> warps = {&warpOf(0), &warpOf(1), &warpOf(2), &warpOf(3)};
  for (; executed < last; ++executed) {
    execute(queue.front(), warps);
    queue.pop_front();
  }
}

void Warpgroup::commit(Warp &warp) { warp.inFlight->committed.push_back(issued); }

void Warpgroup::wait(Warp &warp, uint64_t most) {
  RegistersInFlight &own = *warp.inFlight;
  uint32_t last = 0;
  for (; own.committed.size() > most; own.committed.pop_front()) last = own.committed.front();
  if (!last) return;
  executeUntil(last);
  block.shared.learn(warp.number, agent, last);
  std::erase_if(own.all, [&](int index) {
    if (own.product[index] > last) return false;
    own.product[index] = 0;
    warp.defined[index] = 0xFFFFFFFFu;
    return true;
  });
}

// ---- setmaxnreg ------------------------------------------------------------------------------

bool Warpgroup::setRegisters(Warp &warp, bool more, int count) {
  if (static_cast<size_t>(4 * number + 3) >= block.warps.size()) warp.fail("a warpgroup of fewer than four warps", 0);
  if (count < 24 || count > 256 || count % 8)
    warp.fail("setmaxnreg to " + std::to_string(count) + ", expected a multiple of 8 from 24 to 256", 0);
  if (!block.registers.perThread)
    warp.fail("setmaxnreg in a kernel that says neither .maxnreg nor how many threads it has", 0);
  size_t &made = changed[static_cast<size_t>(warp.number % 4)];
  if (made == changes.size()) changes.push_back({more, count});
  if (changes[made].more != more || changes[made].count != count)
    warp.fail("another warp of the warpgroup has come to another setmaxnreg, to " + std::to_string(changes[made].count),
              0);
  const int before = made ? changes[made - 1].count : block.registers.perThread;
  if (more ? count < before : count > before)
    warp.fail(std::string("setmaxnreg.") + (more ? "inc" : "dec") + " to " + std::to_string(count) +
                  ", and the warp has " + std::to_string(before),
              0);
  if (more && 32 * (count - before) > block.registers.free) {
    warp.wait = Warp::Wait::Registers;
    warp.waitPlace = static_cast<uint64_t>(count);
    return false;
  }
  block.registers.free += 32 * (before - count);
  ++made;
  ++block.events;
  if (!more)
    for (Warp &other : block.warps)
      if (other.wait == Warp::Wait::Registers) block.wake(other);
  return true;
}

void Warpgroup::checkEnd() const {
  for (int index = 0; index < 4 && static_cast<size_t>(4 * number + index) < block.warps.size(); ++index) {
    const Warp &warp = warpOf(index);
    if (warp.inFlight && !warp.inFlight->all.empty()) warp.fail("returned without waiting for its wgmma.mma_async", 0);
    if (changed[static_cast<size_t>(index)] != changes.size())
      warp.fail("returned without the setmaxnreg to " + std::to_string(changes.back().count) +
                    " that another warp of its warpgroup has executed",
                0);
  }
}

}  // namespace weft::ptx
