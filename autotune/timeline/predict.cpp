#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include "autotune/timeline.h"
#include "autotune/timeline/reorder.h"
#include "autotune/timeline/schedule.h"
#include "autotune/timeline/waves.h"
#include "runtime/ptxas.h"

namespace weft::timeline {
namespace {

/// What the machine reaches of what is scheduled here: one factor, fitted on half of the measured kernels
/// (docs/timeline.md).
constexpr double efficiency = 1.0;
/// Reserved by the system in each block's shared memory (CUDA C++ Programming Guide, compute capability 8.0 on).
constexpr int64_t reservedShared = 1024;

struct Occupancy {
  int blocks = 1;
  std::string limit;
};

Occupancy occupancyOf(const Kernel &kernel, const Chip &chip) {
  const int warps = std::max(1, (kernel.threads + 31) / 32);
  // A warp has its registers in units of 256.
  const int registers = std::max(1, (std::clamp(kernel.registers, 16, 255) * 32 + 255) / 256 * 256 * warps);
  const int64_t shared = std::max<int64_t>(0, kernel.sharedBytes) + reservedShared;
  const std::pair<int64_t, const char *> limits[] = {{registersPerUnit / registers, "registers"},
                                                     {chip.sharedBytes / shared, "shared memory"},
                                                     {chip.warps / warps, "warps an SM has room for"},
                                                     {chip.blocks, "blocks an SM has room for"}};
  const auto least = std::min_element(std::begin(limits), std::end(limits),
                                      [](const auto &a, const auto &b) { return a.first < b.first; });
  return {static_cast<int>(std::max<int64_t>(1, least->first)), least->second};
}

std::string percent(double share) { return std::to_string(static_cast<int>(std::lround(100 * share))) + " %"; }

/// Cycles of a turn with 1, ..., blocks blocks on the SM: scheduled for a few counts, on straight lines between.
std::vector<double> cyclesByCount(const std::vector<Step> &turn, const Resident &full, int registers, const Chip &chip,
                                  const Run &known) {
  std::vector<double> cycles(full.blocks);
  cycles[full.blocks - 1] = known.cycles;
  int before = 0;
  for (int count = 1;; count = std::min(2 * count, full.blocks)) {
    if (count < full.blocks) cycles[count - 1] = steady(turn, {count, full.warpsPerBlock}, registers, chip).cycles;
    for (int at = before + 1; before > 0 && at < count; ++at)
      cycles[at - 1] = cycles[before - 1] + (cycles[count - 1] - cycles[before - 1]) * (at - before) / (count - before);
    before = count;
    if (count == full.blocks) return cycles;
  }
}

/// What limits the loop, in words.
std::string boundOf(const Timeline &result) {
  const double longest = std::max({result.loopSeconds, result.l2Seconds, result.memorySeconds});
  if (longest > 0 && result.memorySeconds == longest) return "memory: each byte once takes as long";
  if (longest > 0 && result.l2Seconds == longest) return "L2: what blocks load takes as long";
  const PipeShare *most = nullptr;
  for (const PipeShare &pipe : result.pipes)
    if (!most || pipe.loop > most->loop) most = &pipe;
  if (result.issue >= 0.7 && (!most || result.issue > most->loop))
    return "issue slots, " + percent(result.issue) + " taken";
  if (most && most->loop >= 0.7) return most->name + ", " + percent(most->loop) + " busy";
  std::string text = "latency: no pipe is busier than " + percent(most ? most->loop : 0);
  if (most) text += " (" + most->name + ")";
  for (const auto &[what, share] : result.waits)
    if (what != nameOfWait(static_cast<int>(Wait::Slot))) return text + "; warps wait most for " + what;
  return text;
}

}  // namespace

const Chip &chip(const std::string &name) {
  if (const Chip *found = findChip(name)) return *found;
  throw std::runtime_error("expected a GPU that there is a model of (" + chipNames() + "), got '" + name + "'");
}
std::string architecture(const Chip &chip) { return "sm_" + std::to_string(chip.capability); }
std::string product(const Chip &chip) { return chip.product; }

Timeline predict(const Kernel &kernel, const Load &load, const Chip &chip) {
  const Code code = kernel.sass ? readSass(kernel.code) : readPtx(kernel.code);
  const Paths paths = findPaths(code, load.otherTurns);
  Timeline result;
  result.kernel = kernel.name;
  result.product = chip.product;
  result.sass = kernel.sass;
  result.registers = kernel.registers;
  if (code.instructions.empty()) {
    result.bound = "unknown: no instructions were found";
    result.notes.push_back("no instructions were found in the kernel's text");
    return result;
  }
  const Occupancy occupancy = occupancyOf(kernel, chip);
  const int warpsPerBlock = std::max(1, (kernel.threads + 31) / 32);
  // No more than there are.
  const size_t blocks = load.blocks.size();
  const int filled = static_cast<int>((blocks + chip.units - 1) / chip.units);
  const Resident resident{std::clamp(filled, 1, occupancy.blocks), warpsPerBlock};
  result.blocksPerUnit = occupancy.blocks;
  result.limit = occupancy.limit;
  result.warps = resident.blocks * warpsPerBlock;
  result.warpsPerBlock = warpsPerBlock;
  result.blocks = blocks;
  result.waves = static_cast<double>(blocks) / (static_cast<double>(occupancy.blocks) * chip.units);

  const int registers = code.registers;
  auto priced = [&](const Path &path, const Chip &chip) {
    std::vector<Step> steps = price(code, path, chip);
    return kernel.sass ? steps : reorder(steps, registers);
  };
  const std::vector<Step> before = priced(paths.before, chip), after = priced(paths.after, chip),
                          full = priced(paths.full, chip), partial = priced(paths.partial, chip);
  const Run fullRun = steady(full, resident, registers, chip);
  const Run partialRun = paths.partial == paths.full ? fullRun : steady(partial, resident, registers, chip);
  // What is outside of the loop runs beside other blocks' loops: as if alone, but for what comes from memory.
  Chip far = chip;
  far.latencies.l2 = chip.latencies.memory;
  const Resident alone{1, warpsPerBlock};
  result.beforeCycles = schedule(priced(paths.before, far), 1, paths.loop ? alone : resident, registers, far).cycles;
  result.afterCycles = schedule(after, 1, alone, registers, chip).cycles;
  result.fullCycles = fullRun.cycles;
  result.partialCycles = partialRun.cycles;

  std::vector<double> speeds(resident.blocks, 1);
  if (paths.loop && fullRun.cycles > 0) {
    const std::vector<double> cycles = cyclesByCount(full, resident, registers, chip, fullRun);
    for (int at = 0; at < resident.blocks; ++at) speeds[at] = std::max(1.0, fullRun.cycles / std::max(cycles[at], 1.0));
  }
  std::vector<double> work;
  work.reserve(blocks);
  for (const Turns &turns : load.blocks) {
    work.push_back(result.beforeCycles + result.afterCycles + turns.full * fullRun.cycles +
                   turns.partial * partialRun.cycles);
    result.turns += turns.full + turns.partial;
    result.partialTurns += turns.partial;
  }
  const double cycles = wavesCycles(work, chip.units, speeds), second = chip.clock * 1e9;

  const Totals sums[] = {totals(before), totals(after), totals(full), totals(partial)};
  const double all = static_cast<double>(blocks), masked = static_cast<double>(result.partialTurns),
               whole = static_cast<double>(result.turns) - masked;
  const double counts[] = {all, all, whole, masked};
  Totals total;
  for (int at = 0; at < 4; ++at) {
    const double warps = counts[at] * warpsPerBlock;
    total.instructions += warps * sums[at].instructions;
    total.flop += warps * sums[at].flop;
    total.bytes += warps * sums[at].bytes;
    for (int pipe = 0; pipe < pipes; ++pipe) total.cycles[pipe] += warps * sums[at].cycles[pipe];
  }
  result.fullInstructions = sums[2].instructions;
  result.partialInstructions = sums[3].instructions;
  result.loopSeconds = cycles / efficiency / second;
  result.l2Seconds = total.bytes / (chip.l2Gigabytes * 1e9);
  result.memorySeconds = load.bytes / (chip.gigabytes * 1e9);
  result.seconds = std::max({result.loopSeconds, result.l2Seconds, result.memorySeconds});
  if (result.seconds > 0) result.teraflops = total.flop / result.seconds / 1e12;

  const double loopSlots = fullRun.cycles * schedulers, slots = result.seconds * second * chip.units * schedulers;
  auto share = [](double part, double of) { return of > 0 ? part / of : 0; };
  result.issue = share(fullRun.issued, loopSlots) * efficiency;
  result.issueKernel = share(total.instructions, slots);
  // A step of either half of the FMA pipe counts where it was scheduled; over the kernel, as in the loop.
  for (int at = 0; at < pipes; ++at) {
    const int same = static_cast<int>(Pipe::Fma), other = static_cast<int>(Pipe::FmaOnly);
    double cyclesOf = total.cycles[at];
    if (at == same || at == other)
      cyclesOf = total.cycles[same] * share(fullRun.busy[at], fullRun.busy[same] + fullRun.busy[other]);
    const double loop = share(fullRun.busy[at], loopSlots) * efficiency;
    result.pipes.push_back(
        {name(static_cast<Pipe>(at)), loop, share(cyclesOf * (ofUnit(static_cast<Pipe>(at)) ? schedulers : 1), slots)});
  }
  double waited = 0;
  for (double cyclesOf : fullRun.waited) waited += cyclesOf;
  for (int at = 0; at < waits; ++at)
    if (fullRun.waited[at] > 0)
      result.waits.push_back({nameOfWait(at), fullRun.waited[at] / (waited + fullRun.issued)});
  std::stable_sort(result.waits.begin(), result.waits.end(),
                   [](const auto &a, const auto &b) { return a.second > b.second; });

  if (!paths.loop) result.notes.push_back("no loop multiplies tiles: one way through the code, loops once each");
  if (paths.loops > 1)
    result.notes.push_back(std::to_string(paths.loops) +
                           " loops multiply tiles; every turn is taken to be the largest's");
  if (!kernel.sass)
    result.notes.push_back("read from PTX: no ptxas or no disassembler; registers and instructions are guesses");
  result.bound = boundOf(result);
  return result;
}

Kernel kernelOf(const KernelImage &image, const Chip &chip) {
  Kernel kernel{image.entry, image.code, false, 255, image.threads, image.sharedBytes, 0};
  if (findPtxas().empty()) return kernel;
  const Assembled assembled = assemble(image.code, architecture(chip));
  kernel.registers = assembled.registers;
  kernel.spillBytes = assembled.spillBytes;
  try {
    kernel.code = disassemble(assembled.cubin);
    kernel.sass = true;
  } catch (const std::runtime_error &) {
    // The PTX stays.
  }
  return kernel;
}

}  // namespace weft::timeline
