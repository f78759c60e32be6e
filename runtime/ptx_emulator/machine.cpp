#include "runtime/ptx_emulator/machine.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace weft::ptx {

std::string hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

// ---- warps -----------------------------------------------------------------------------------

Warp::Warp(Block &block, int number, int lanes)
    : block(block),
      number(number),
      alive(lanes >= 32 ? 0xFFFFFFFFu : (1u << lanes) - 1),
      registers(block.kernel.registerNames.size()),
      defined(block.kernel.registerNames.size(), 0) {
  paths.push_back({0, static_cast<int>(block.kernel.code.size()), alive});
  if (!block.kernel.multiplies) return;
  inFlight = std::make_unique<RegistersInFlight>();
  inFlight->written.resize(registers.size());
  inFlight->product.resize(registers.size());
  inFlight->accumulates.resize(registers.size());
}

void Warp::fail(const std::string &what, int lane) const {
  std::string where = block.kernel.name;
  if (current) where += ": line " + std::to_string(current->line) + ": " + current->text;
  throw std::runtime_error("ptx emulator: " + what + "\n  in " + where + "\n  block " + std::to_string(block.index) +
                           ", thread " + std::to_string(32 * number + lane));
}

const Lanes &Warp::read(const Operand &operand, uint32_t lanes) {
  if (operand.kind != Operand::Kind::Register) return block.kernel.constants[operand.index];
  if (const uint32_t missing = lanes & ~defined[operand.index]) failRead(operand.index, missing);
  return registers[operand.index];
}

void Warp::failRead(int index, uint32_t missing) const {
  const std::string name = "register " + block.kernel.registerNames[index];
  if (inFlight && inFlight->product[index])
    fail("read of " + name + ", which a wgmma.mma_async uses that was not waited for", __builtin_ctz(missing));
  fail("read of " + name + ", which was never written", __builtin_ctz(missing));
}

void Warp::noteWrite(int index) {
  if (inFlight->product[index])
    fail("write of register " + block.kernel.registerNames[index] +
             ", which a wgmma.mma_async uses that was not waited for",
         0);
  inFlight->written[index] = inFlight->fences + 1;
}

Lanes &Warp::write(const Operand &operand, uint32_t lanes) {
  if (inFlight) noteWrite(operand.index);
  defined[operand.index] |= lanes;
  return registers[operand.index];
}

int Warp::bitsOf(const Operand &own) const { return block.kernel.registerBits[own.index]; }

void Warp::branch(int target, uint32_t lanes) {
  Path &own = paths.back();
  if (lanes == own.lanes) {
    own.pc = target;
    return;
  }
  const int past = own.pc, join = current->join;
  const uint32_t rest = own.lanes & ~lanes;
  own.pc = join;
  if (past != join) paths.push_back({past, join, rest});
  if (target != join) paths.push_back({target, join, lanes});
}

void Warp::leave(uint32_t lanes) {
  alive &= ~lanes;
  for (Path &path : paths) path.lanes &= ~lanes;
}

void Warp::run(int64_t most) {
  const auto &code = block.kernel.code;
  const int end = static_cast<int>(code.size());
  stepsLeft = most;
  while (alive && wait == Wait::No && stepsLeft-- > 0) {
    Path &path = paths.back();
    if (!path.lanes || (path.pc == path.join && paths.size() > 1)) {
      paths.pop_back();
      continue;
    }
    if (path.pc >= end) {
      leave(path.lanes);
      continue;
    }
    const Instruction &instruction = code[path.pc++];
    current = &instruction;
    block.step(*this);
    uint32_t active = path.lanes;
    if (instruction.guard >= 0) {
      const Lanes &predicate = read({Operand::Kind::Register, Operand::Of::Number, instruction.guard, 0}, path.lanes);
      active = 0;
      for (uint32_t left = path.lanes; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        if ((predicate[lane] != 0) != instruction.guardNegated) active |= 1u << lane;
      }
      if (!active) continue;
    }
    if (instruction.converged && active != alive)
      fail("only part of the warp reaches this", __builtin_ctz(alive & ~active));
    ++block.report.instructions;
    instruction.execute(*this, instruction, active);
  }
}

// ---- blocks ----------------------------------------------------------------------------------

Block::Block(const Kernel &kernel, const Launch &launch, int64_t index, Report &report, SharedMemory &shared,
             Progress &progress)
    : kernel(kernel),
      launch(launch),
      index(index),
      report(report),
      shared(shared),
      progress(progress),
      random(launch.seed + 0x9E3779B97F4A7C15u * static_cast<uint64_t>(index + 1)) {
  const int count = (launch.threads + 31) / 32;
  shared.reset(kernel.sharedBytes + launch.sharedBytes, count);
  warps.reserve(count);
  const int64_t threads = kernel.maxRegisters ? 0 : kernel.threads ? kernel.threads : kernel.maxThreads;
  // As many as ptxas may give a thread where it is not told.
  registers.perThread = static_cast<int>(
      threads ? std::min<int64_t>(65536 / (std::max<int64_t>(kernel.minBlocks, 1) * ((threads + 31) / 32 * 32)), 256)
              : std::min<int64_t>(kernel.maxRegisters, 256));
  registers.perThread -= registers.perThread % 8;
  for (int first = 0; first < launch.threads; first += 32)
    warps.emplace_back(*this, first / 32, std::min(32, launch.threads - first));
}

uint32_t Block::drawn(uint32_t below) {
  if (!launch.seed) return 0;
  random += 0x9E3779B97F4A7C15u;  // splitmix64
  uint64_t z = random;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return static_cast<uint32_t>((z ^ z >> 31) % below);
}

void Block::moreSteps(const Warp &warp) {
  constexpr int64_t atOnce = 4096;
  allowance = 0;
  const int64_t left = progress.stepsLeft.fetch_sub(atOnce);
  if (left <= 0) {
    progress.stepsLeft += atOnce;
    warp.fail("the launch has executed " + std::to_string(launch.steps) +
                  " warp instructions and is not done: an endless loop, or WEFT_EMULATOR_STEPS is too small",
              0);
  }
  allowance = std::min(left, atOnce) - 1;
  if (left < atOnce) progress.stepsLeft += atOnce - left;
}

void Block::wake(Warp &warp) {
  warp.wait = Warp::Wait::No;
  if (warp.ready) return;
  warp.ready = true;
  auto behind = std::find_if(ready.begin(), ready.end(), [&](const Warp *own) { return own->number > warp.number; });
  ready.insert(behind, &warp);
}

Warpgroup &Block::warpgroupOf(const Warp &warp) {
  const int number = warp.number / 4;
  while (static_cast<int>(warpgroups.size()) <= number)
    warpgroups.push_back(std::make_unique<Warpgroup>(*this, static_cast<int>(warpgroups.size())));
  return *warpgroups[static_cast<size_t>(number)];
}

void Block::later(Warp &warp, std::function<void()> what) {
  if (!launch.seed) what();
  else pending.push_back({&warp, warp.current, std::move(what)});
}

bool Block::happen() {
  if (pending.empty()) return false;
  const auto which = pending.begin() + drawn(static_cast<uint32_t>(pending.size()));
  const Later own = std::move(*which);
  pending.erase(which);
  const Instruction *meanwhile = std::exchange(own.warp->current, own.instruction);
  own.what();
  own.warp->current = meanwhile;
  return true;
}

void Block::run() {
  for (Warp &warp : warps) wake(warp);
  do {
    // In turns, most of them long (a warp's registers fill a cache), some short; or, without a seed, one after the
    // other.
    while (!ready.empty()) {
      Warp &own = *ready[drawn(static_cast<uint32_t>(ready.size()))];
      own.run(!launch.seed ? INT64_MAX : 1 + drawn(drawn(4) ? 4096 : 64));
      while (!pending.empty() && drawn(2)) happen();
      if (own.alive && own.wait == Warp::Wait::No) continue;
      own.ready = false;
      std::erase(ready, &own);
    }
  } while (happen() || wakePolling());
  for (const Warp &warp : warps)
    if (warp.alive) failDeadlock();
  checkEnd();
}

bool Block::wakePolling() {
  constexpr int most = 64;
  if (events != eventsBefore) wokenInVain = 0;
  eventsBefore = events;
  if (++wokenInVain > most) return false;
  for (Warp &warp : warps)
    if (warp.wait == Warp::Wait::Mbarrier) wake(warp);
  return !ready.empty();
}

std::string Block::whatFor(const Warp &warp) const {
  switch (warp.wait) {
    case Warp::Wait::Barrier: return barriers.describe(warp.waitPlace, warp);
    case Warp::Wait::Mbarrier: return mbarriers.describe(warp.waitPlace) + " never completes its phase";
    case Warp::Wait::Warpgroup: return "not all warps of the warpgroup come to this instruction";
    default:
      return "no warp gives away the registers for " + std::to_string(warp.waitPlace) +
             " of a thread: " + std::to_string(registers.free) + " are free";
  }
}

void Block::failDeadlock() const {
  const Warp *first = nullptr;
  std::string all = "deadlock: ";
  for (const Warp &warp : warps) {
    if (warp.wait == Warp::Wait::No) continue;
    if (first)
      all += "\n  warp " + std::to_string(warp.number) + " too waits, at line " + std::to_string(warp.current->line) +
             ": ";
    else first = &warp;
    all += whatFor(warp);
  }
  first->fail(all, std::countr_zero(first->alive));
}

void Block::checkEnd() {
  for (const Warp &warp : warps) {
    if (!warp.open.empty()) warp.fail("returned without committing its cp.async", warp.open[0].lane);
    for (const auto &group : warp.groups)
      if (!group.empty()) warp.fail("returned without waiting for its cp.async", group[0].lane);
  }
  for (const auto &group : warpgroups) group->checkEnd();
  bulk.finish(warps);
}

// ---- memory ----------------------------------------------------------------------------------

uint8_t *Block::find(const Warp &warp, int lane, uint64_t address, int bytes) {
  auto inside = [&](const MemoryRange &range) {
    const uint64_t offset = address - range.begin, size = static_cast<uint64_t>(std::max<int64_t>(range.bytes, 0));
    return address >= range.begin && offset <= size && static_cast<uint64_t>(bytes) <= size - offset;
  };
  const auto &memory = launch.memory;
  if (lastRange >= memory.size() || !inside(memory[lastRange])) {
    lastRange = static_cast<size_t>(std::find_if(memory.begin(), memory.end(), inside) - memory.begin());
    if (lastRange == memory.size())
      warp.fail("access of " + std::to_string(bytes) + " bytes outside all buffers, at global address " + hex(address),
                lane);
  }
  report.globalBytes += bytes;
  return reinterpret_cast<uint8_t *>(address);
}

void Block::note(const Warp &warp, int lane, uint64_t address, int bytes, GlobalRaces::Access access) {
  if (launch.blocks == 1) return;
  if (const std::string race = progress.races.note(access, index, lastRange, address, bytes); !race.empty())
    warp.fail(race + ", at global address " + hex(address), lane);
}

uint8_t *Block::global(const Warp &warp, int lane, uint64_t address, int bytes, GlobalRaces::Access access) {
  uint8_t *place = find(warp, lane, address, bytes);
  note(warp, lane, address, bytes, access);
  return place;
}

void Block::checkGlobal(const Warp &warp, int lane, uint64_t address, int bytes) {
  find(warp, lane, address, bytes);
  report.globalBytes -= bytes;
}

void Block::storeGlobal(const Warp &warp, int lane, uint64_t address, int bytes, const void *value) {
  uint8_t *place = find(warp, lane, address, bytes);
  if (std::memcmp(place, value, bytes) == 0) return;
  note(warp, lane, address, bytes, GlobalRaces::Write);
  std::memcpy(place, value, bytes);
}

/// 32 banks of 4 bytes, one word a bank a pass.
void Block::countBanks(const Lanes &addresses, uint32_t lanes, int width) {
  const int together = std::max(1, 128 / std::max(width, 4));  // lanes that share a pass at best
  const int words = std::max(width / 4, 1);
  int64_t passes = 0, groups = 0;
  for (int begin = 0; begin < 32; begin += together) {
    const uint32_t group = together == 32 ? lanes : lanes >> begin & ((1u << together) - 1);
    if (!group) continue;
    // Distinct words, each with a link to the one before it in its bank.
    uint64_t seen[32];
    int before[32], last[32], count[32] = {}, size = 0, most = 1;
    for (uint32_t left = group; left; left &= left - 1)
      for (int word = 0; word < words; ++word) {
        const uint64_t own = addresses[begin + __builtin_ctz(left)] / 4 + word;
        const int bank = static_cast<int>(own % 32);
        int at = count[bank] ? last[bank] : -1;
        while (at >= 0 && seen[at] != own) at = before[at];
        if (at >= 0) continue;
        seen[size] = own;
        before[size] = count[bank] ? last[bank] : -1;
        last[bank] = size++;
        most = std::max(most, ++count[bank]);
      }
    passes += most;
    ++groups;
  }
  report.sharedAccesses += groups;
  report.bankConflicts += passes - groups;
}

}  // namespace weft::ptx
