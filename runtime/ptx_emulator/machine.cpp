#include "runtime/ptx_emulator/machine.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <thread>

namespace weft::ptx {

// ---- warps -----------------------------------------------------------------------------------

Warp::Warp(Block &block, int number, int lanes)
    : block(block), number(number), alive(lanes >= 32 ? 0xFFFFFFFFu : (1u << lanes) - 1),
      registers(block.kernel.registers), defined(block.kernel.registers, 0) {
  paths.push_back({0, static_cast<int>(block.kernel.code.size()), alive});
}

void Warp::fail(const std::string &what, int lane) const {
  std::string where = block.kernel.name;
  if (current) where += ": line " + std::to_string(current->line) + ": " + current->text;
  throw std::runtime_error("ptx emulator: " + what + "\n  in " + where + "\n  block " + std::to_string(block.index) +
                           ", thread " + std::to_string(32 * number + lane));
}

const Lanes &Warp::read(const Operand &operand, uint32_t lanes) {
  if (operand.kind == Operand::Kind::Register) {
    if (const uint32_t missing = lanes & ~defined[operand.index])
      fail("read of register " + block.kernel.registerNames[operand.index] + ", which was never written",
           __builtin_ctz(missing));
    return registers[operand.index];
  }
  Lanes &slot = immediates[nextImmediate++ % immediates.size()];
  slot.fill(operand.value);
  return slot;
}

Lanes &Warp::write(const Operand &operand, uint32_t lanes) {
  defined[operand.index] |= lanes;
  return registers[operand.index];
}

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

void Warp::run() {
  const auto &code = block.kernel.code;
  const int end = static_cast<int>(code.size());
  while (alive && !waiting) {
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
    uint32_t active = path.lanes;
    if (instruction.guard >= 0) {
      const Lanes &predicate = read({Operand::Kind::Register, instruction.guard, 0}, path.lanes);
      active = 0;
      for (uint32_t left = path.lanes; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        if ((predicate[lane] != 0) != instruction.guardNegated) active |= 1u << lane;
      }
      if (!active) continue;
    }
    if (instruction.converged && active != alive)
      fail("only part of the warp reaches this", __builtin_ctz(alive & ~active));
    ++steps;
    ++block.report.instructions;
    instruction.execute(*this, instruction, active);
  }
}

// ---- blocks ----------------------------------------------------------------------------------

Block::Block(const Kernel &kernel, const Launch &launch, int64_t index, Report &report, std::vector<SharedByte> &shared)
    : kernel(kernel), launch(launch), index(index), report(report), shared(shared) {
  shared.assign(launch.sharedBytes, SharedByte());
  warps.reserve((launch.threads + 31) / 32);
  for (int first = 0; first < launch.threads; first += 32)
    warps.emplace_back(*this, first / 32, std::min(32, launch.threads - first));
}

void Block::run() {
  for (;;) {
    for (Warp &warp : warps) warp.run();
    bool waits = false;
    const Warp *gone = nullptr, *waiter = nullptr;
    for (const Warp &warp : warps) {
      waits |= warp.waiting;
      (warp.waiting ? waiter : gone) = &warp;
    }
    if (!waits) break;
    if (gone) waiter->fail("deadlock: warp " + std::to_string(gone->number) + " has returned and never comes to this barrier", 0);
    ++epoch;
    ++report.barriers;
    for (Warp &warp : warps) warp.waiting = false;
  }
  for (const Warp &warp : warps)
    for (const auto &group : warp.groups)
      if (!group.empty()) warp.fail("returned without waiting for its cp.async", group[0].lane);
}

static std::string hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

uint8_t *Block::global(const Warp &warp, int lane, uint64_t address, int bytes) {
  if (address % bytes) warp.fail("misaligned access of " + std::to_string(bytes) + " bytes at global address " + hex(address), lane);
  auto inside = [&](const MemoryRange &range) {
    return address >= range.begin && address + bytes <= range.begin + static_cast<uint64_t>(range.bytes);
  };
  if (!last || !inside(*last)) {
    last = nullptr;
    for (const MemoryRange &range : launch.memory)
      if (inside(range)) last = &range;
    if (!last) warp.fail("access of " + std::to_string(bytes) + " bytes outside all buffers, at global address " + hex(address), lane);
  }
  report.globalBytes += bytes;
  return reinterpret_cast<uint8_t *>(address);
}

void Block::checkShared(const Warp &warp, int lane, uint64_t address, int bytes) {
  if (address % bytes) warp.fail("misaligned access of " + std::to_string(bytes) + " bytes at shared address " + hex(address), lane);
  if (address + bytes > shared.size())
    warp.fail("access outside shared memory of " + std::to_string(shared.size()) + " bytes, at shared address " + hex(address), lane);
  report.sharedBytes += bytes;
}

uint64_t Block::readShared(const Warp &warp, int lane, uint64_t address, int bytes) {
  checkShared(warp, lane, address, bytes);
  uint64_t value = 0;
  for (int at = 0; at < bytes; ++at) {
    SharedByte &byte = shared[address + at];
    if (byte.pending) warp.fail("read of shared memory at " + hex(address + at) + " that a cp.async has not delivered", lane);
    if (!byte.defined) warp.fail("read of shared memory at " + hex(address + at) + " that was never written", lane);
    if (byte.writeEpoch == epoch && byte.writer != warp.number)
      warp.fail("race: warp " + std::to_string(byte.writer) + " wrote shared address " + hex(address + at) + " and no barrier lies between", lane);
    byte.reader = byte.readEpoch == epoch && byte.reader != warp.number ? -2 : static_cast<int16_t>(warp.number);
    byte.readEpoch = epoch;
    value |= static_cast<uint64_t>(byte.value) << 8 * at;
  }
  return value;
}

void Block::writeShared(const Warp &warp, int lane, uint64_t address, int bytes, const void *value) {
  checkShared(warp, lane, address, bytes);
  for (int at = 0; at < bytes; ++at) {
    SharedByte &byte = shared[address + at];
    if (byte.writeEpoch == epoch && byte.writer != warp.number)
      warp.fail("race: warp " + std::to_string(byte.writer) + " too wrote shared address " + hex(address + at) + " and no barrier lies between", lane);
    if (byte.writeEpoch == epoch && byte.writeStep == warp.steps)
      warp.fail("race: two threads of the warp write shared address " + hex(address + at) + " at once", lane);
    if (byte.readEpoch == epoch && byte.reader != warp.number)
      warp.fail("race: another warp reads shared address " + hex(address + at) + " and no barrier lies between", lane);
    if (byte.pending) warp.fail("write to shared address " + hex(address + at) + " while a cp.async to it is under way", lane);
    byte.writer = static_cast<int16_t>(warp.number);
    byte.writeEpoch = epoch;
    byte.writeStep = warp.steps;
    byte.pending = !value;
    if (value) {
      byte.value = static_cast<const uint8_t *>(value)[at];
      byte.defined = true;
    }
  }
}

void Block::deliver(const Warp &warp, const Warp::Copy &copy) {
  for (int at = 0; at < copy.bytes; ++at) {
    SharedByte &byte = shared[copy.to + at];
    byte.value = copy.data[at];
    byte.defined = true;
    byte.pending = false;
    byte.writer = static_cast<int16_t>(warp.number);
    byte.writeEpoch = epoch;
    byte.writeStep = -1;
  }
}

// ---- modules ---------------------------------------------------------------------------------

struct Module::Kernels {
  Program program;
};

Module::Module(const std::string &text) : kernels(std::make_unique<Kernels>()) { kernels->program = parse(text); }
Module::~Module() = default;

Report Module::run(const std::string &name, const Launch &launch, int threads) const {
  auto found = kernels->program.kernels.find(name);
  if (found == kernels->program.kernels.end()) throw std::runtime_error("ptx emulator: no kernel named " + name);
  const Kernel &kernel = found->second;
  checkLaunch(kernels->program.target, kernel, launch);
  std::atomic<int64_t> next{0};
  std::mutex mutex;
  Report total;
  std::exception_ptr error;
  auto work = [&] {
    Report own;
    std::vector<SharedByte> shared;
    try {
      for (int64_t index = next++; index < launch.blocks; index = next++) Block(kernel, launch, index, own, shared).run();
    } catch (...) {
      next = launch.blocks;
      std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
    std::lock_guard lock(mutex);
    total += own;
  };
  std::vector<std::thread> helpers;
  for (int at = 1; at < threads && at < launch.blocks; ++at) helpers.emplace_back(work);
  work();
  for (std::thread &helper : helpers) helper.join();
  if (error) std::rethrow_exception(error);
  return total;
}

}  // namespace weft::ptx
