#include <algorithm>
#include <cmath>

#include "autotune/timeline.h"
#include "autotune/timeline/reorder.h"
#include "autotune/timeline/schedule.h"
#include "autotune/timeline/waves.h"

namespace weft::timeline {
namespace {

/// What a GPU reaches of the speed that is scheduled here. The one fitted figure: see docs/timeline.md.
constexpr double efficiency = 0.88;
/// Reserved by the system in each block's shared memory (CUDA C++ Programming Guide, compute capability 8.0 on).
constexpr int64_t reservedShared = 1024;
/// A pipe that is this busy is what the loop waits for.
constexpr double bound = 0.7;

struct Occupancy {
  int blocks = 1;
  std::string limit;
};

Occupancy occupancyOf(const Kernel &kernel, int warps, const Chip &chip) {
  // A warp has its registers in units of 256.
  const int registers = std::max(1, (std::clamp(kernel.registers, 16, mostRegisters) * 32 + 255) / 256 * 256 * warps);
  const int64_t shared = std::max<int64_t>(0, kernel.sharedBytes) + reservedShared;
  const std::pair<int64_t, const char *> limits[] = {{registersPerUnit / registers, "registers"},
                                                     {chip.sharedBytes / shared, "shared memory"},
                                                     {chip.warps / warps, "the warps it has room for"},
                                                     {chip.blocks, "the blocks it has room for"}};
  const auto least = std::min_element(std::begin(limits), std::end(limits),
                                      [](const auto &a, const auto &b) { return a.first < b.first; });
  return {static_cast<int>(std::max<int64_t>(1, least->first)), least->second};
}

/// The ways of a kernel, priced, and what they take on an SM.
struct Parts {
  bool loop = false;
  std::vector<Step> once, before, after, full, partial;
  Run fullRun, partialRun;            ///< of a turn of all resident blocks
  double onceCycles = 0;              ///< of a block that takes programs
  Run beforeRun, afterRun;            ///< of a block or program; without a loop, of all resident blocks
  std::vector<double> cyclesByCount;  ///< of a turn, or without a loop of all, with 1, ... blocks on the SM
};

/// Scheduled for a few counts, on straight lines between.
template <typename CyclesOf>
std::vector<double> byCount(int most, CyclesOf cyclesOf) {
  std::vector<double> cycles(most);
  int before = 0;
  for (int count = 1; before < most; count = std::min(2 * count, most)) {
    cycles[count - 1] = cyclesOf(count);
    for (int at = before + 1; before > 0 && at < count; ++at)
      cycles[at - 1] = cycles[before - 1] + (cycles[count - 1] - cycles[before - 1]) * (at - before) / (count - before);
    before = count;
  }
  return cycles;
}

/// What warps of their own copy for a turn of `warps` others: each waits for its share as if it had copied it itself, a
/// turn ahead.
std::vector<Step> copiesOfOthers(double bytes, int warps, const Chip &chip) {
  if (bytes == 0) return {};
  std::vector<Step> steps(3);
  steps[0].bytes = static_cast<int>(bytes / warps);
  steps[0].l2Cycles = static_cast<float>(steps[0].bytes / chip.l2BytesPerCycle());
  steps[0].latency = static_cast<float>(chip.latencies.l2);
  steps[0].copy = true;
  steps[1].kind = Step::Kind::Commit;
  steps[2].kind = Step::Kind::WaitCopies;
  steps[2].number = 1;
  return steps;
}

Parts partsOf(const Code &code, const Paths &paths, const Resident &resident, double copied, const Chip &chip) {
  auto priced = [&](const Path &path, const Chip &chip) {
    std::vector<Step> steps = price(code, path, chip);
    return code.sass ? steps : reorder(steps, code.registers);
  };
  // What a block reads before its loop comes from memory; the loop's tiles another block has brought to L2.
  Chip far = chip;
  far.latencies.l2 = chip.latencies.memory;
  Parts parts;
  parts.loop = paths.loop;
  parts.once = priced(paths.once, far);
  parts.before = priced(paths.before, paths.once.empty() ? far : chip);
  parts.after = priced(paths.after, chip);
  const int registers = code.registers, warps = resident.warpsPerBlock;
  parts.full = priced(paths.full, chip);
  parts.partial = priced(paths.partial, chip);
  const std::vector<Step> copies = copiesOfOthers(copied, warps, chip);
  for (std::vector<Step> *turn : {&parts.full, &parts.partial})
    turn->insert(turn->begin(), copies.begin(), copies.end());
  if (!parts.loop) {
    parts.beforeRun = schedule(parts.before, 1, resident, registers, far);
    parts.cyclesByCount = byCount(resident.blocks, [&](int count) {
      return schedule(parts.before, 1, {count, warps}, registers, far).cycles;
    });
    return parts;
  }
  // The first tiles come from memory.
  if (!parts.once.empty())
    parts.onceCycles = schedule(parts.once, 1, {1, warps}, registers, far).cycles + chip.latencies.memory;
  // Beside the loops of other blocks, as if alone.
  parts.beforeRun = schedule(parts.before, 1, {1, warps}, registers, far);
  parts.afterRun = schedule(parts.after, 1, {1, warps}, registers, chip);
  parts.fullRun = steady(parts.full, resident, registers, chip);
  parts.partialRun = paths.partial == paths.full ? parts.fullRun : steady(parts.partial, resident, registers, chip);
  parts.cyclesByCount = byCount(resident.blocks, [&](int count) {
    return count == resident.blocks ? parts.fullRun.cycles : steady(parts.full, {count, warps}, registers, chip).cycles;
  });
  return parts;
}

/// Cycles until the last block is through.
double chipCycles(const Parts &parts, const std::vector<Turns> &blocks, const Chip &chip) {
  const double all = parts.cyclesByCount.back();
  std::vector<double> speeds, work;
  for (double cycles : parts.cyclesByCount) speeds.push_back(std::max(1.0, all / std::max(cycles, 1.0)));
  work.reserve(blocks.size());
  for (const Turns &turns : blocks)
    work.push_back(parts.beforeRun.cycles + parts.afterRun.cycles + turns.full * parts.fullRun.cycles +
                   turns.partial * parts.partialRun.cycles);
  return parts.onceCycles + wavesCycles(work, chip.units, speeds);
}

Totals sumOver(const Parts &parts, double blocks, double full, double partial, int warps) {
  Totals sum;
  auto add = [&](const std::vector<Step> &steps, double times) {
    const Totals own = totals(steps);
    sum.instructions += times * own.instructions;
    sum.flop += times * own.flop;
    sum.bytes += times * own.bytes;
    for (int pipe = 0; pipe < pipes; ++pipe) sum.cycles[pipe] += times * own.cycles[pipe];
  };
  add(parts.before, blocks * warps);
  add(parts.after, blocks * warps);
  add(parts.full, full * warps);
  add(parts.partial, partial * warps);
  return sum;
}

double ratio(double part, double of) { return of > 0 ? part / of : 0; }

void fillShares(Timeline &result, const Parts &parts, const Totals &total, const Chip &chip) {
  const Run &run = parts.loop ? parts.fullRun : parts.beforeRun;
  const double loopSlots = run.cycles * schedulers / efficiency,
               slots = result.seconds * result.clock * 1e9 * chip.units * schedulers;
  result.issueKernel = ratio(total.instructions, slots);
  result.issue = parts.loop ? ratio(run.issued, loopSlots) : result.issueKernel;
  constexpr int half = static_cast<int>(Pipe::Fma), other = static_cast<int>(Pipe::FmaOnly);
  for (int at = 0; at < pipes; ++at) {
    double cycles = total.cycles[at] * (ofUnit(static_cast<Pipe>(at)) ? schedulers : 1);
    // Which half of the FMA pipe an instruction goes to is known where it is scheduled.
    if (at == half || at == other) cycles = total.cycles[half] * ratio(run.busy[at], run.busy[half] + run.busy[other]);
    const double kernel = ratio(cycles, slots);
    result.pipes.push_back({name(static_cast<Pipe>(at)), parts.loop ? ratio(run.busy[at], loopSlots) : kernel, kernel});
  }
  double time = run.issued;
  for (double cycles : run.waited) time += cycles;
  for (int at = 0; at < waits; ++at)
    if (run.waited[at] > 0) result.waits.push_back({nameOfWait(at), run.waited[at] / time});
  std::stable_sort(result.waits.begin(), result.waits.end(),
                   [](const auto &a, const auto &b) { return a.second > b.second; });
}

std::string percent(double share) { return std::to_string(std::lround(100 * share)) + " %"; }

/// What limits the kernel, in words.
std::string boundOf(const Timeline &result) {
  const double longest = std::max({result.loopSeconds, result.l2Seconds, result.memorySeconds});
  if (longest > 0 && result.memorySeconds == longest) return "memory: each byte once takes as long";
  if (longest > 0 && result.l2Seconds == longest) return "L2: what blocks load takes as long";
  const auto most = std::max_element(result.pipes.begin(), result.pipes.end(),
                                     [](const PipeShare &a, const PipeShare &b) { return a.loop < b.loop; });
  const double busiest = most == result.pipes.end() ? 0 : most->loop;
  if (result.issue >= std::max(bound, busiest)) return "issue slots, " + percent(result.issue) + " taken";
  if (busiest >= bound) return most->name + ", " + percent(busiest) + " busy";
  std::string text = "latency: no pipe is busier than " + percent(busiest);
  if (busiest > 0) text += " (" + most->name + ")";
  for (const auto &[what, share] : result.waits)
    if (what != nameOfWait(static_cast<int>(Wait::Slot))) return text + "; warps wait most for " + what;
  return text;
}

void addNotes(Timeline &result, const Kernel &kernel, const Paths &paths) {
  if (!paths.loop)
    result.notes.push_back("no loop multiplies tiles: one way through the code, with turns of its loops assumed");
  if (paths.loops > 1)
    result.notes.push_back(std::to_string(paths.loops) + " loops multiply tiles; each turn counts as the largest's");
  if (!kernel.sass)
    result.notes.push_back("no ptxas or no disassembler: instructions and their order are guessed from PTX, " +
                           std::to_string(kernel.registers) + " registers a thread assumed");
  if (kernel.spillBytes > 0)
    result.notes.push_back(std::to_string(kernel.spillBytes) + " bytes of registers are spilled");
}

}  // namespace

Timeline predict(const Kernel &kernel, const Load &load, const Chip &chip) {
  Timeline result;
  result.kernel = kernel.name;
  result.product = chip.product;
  result.sass = kernel.sass;
  result.registers = kernel.registers;
  const Code code = kernel.sass ? readSass(kernel.code) : readPtx(kernel.code);
  if (code.instructions.empty()) {
    result.bound = "unknown";
    result.notes.push_back("no instructions were found in the kernel's text");
    return result;
  }
  const Paths paths = findPaths(code, std::max(1, load.otherTurns), kernel.copiers > 0);
  const int all = std::clamp((kernel.threads + 31) / 32, 1, chip.warps);
  const int warps = std::max(1, all - kernel.copiers / 32);
  const Occupancy occupancy = occupancyOf(kernel, all, chip);
  const size_t blocks = load.blocks.size();
  const auto filled = static_cast<int64_t>((blocks + chip.units - 1) / chip.units);
  const Resident resident{static_cast<int>(std::clamp<int64_t>(filled, 1, occupancy.blocks)), warps};
  result.blocksPerUnit = occupancy.blocks;
  result.limit = occupancy.limit;
  result.warps = resident.blocks * all;
  result.warpsPerBlock = all;
  result.blocks = blocks;
  result.waves = static_cast<double>(blocks) / (static_cast<double>(occupancy.blocks) * chip.units);
  for (const Turns &turns : load.blocks) {
    result.turns += turns.full + turns.partial;
    result.partialTurns += turns.partial;
  }

  const double copied = static_cast<double>(paths.bulkCopies * kernel.boxBytes);
  const Parts parts = partsOf(code, paths, resident, copied, chip);
  const double partial = static_cast<double>(result.partialTurns), full = static_cast<double>(result.turns) - partial;
  const Totals total = sumOver(parts, static_cast<double>(blocks), full, partial, warps);
  const double cycles = chipCycles(parts, load.blocks, chip) / efficiency;
  result.boostClock = chip.clock;
  result.clock = chip.clockUnder(ratio(total.flop, cycles * chip.units * chip.bf16));
  result.loopSeconds = cycles / (result.clock * 1e9);
  result.l2Seconds = total.bytes / (chip.l2Gigabytes * 1e9);
  result.memorySeconds = load.bytes / (chip.gigabytes * 1e9);
  result.seconds = std::max({result.loopSeconds, result.l2Seconds, result.memorySeconds});
  result.teraflops = ratio(total.flop, result.seconds) / 1e12;
  result.fullCycles = parts.fullRun.cycles / efficiency;
  result.partialCycles = parts.partialRun.cycles / efficiency;
  result.onceCycles = parts.onceCycles / efficiency;
  result.beforeCycles = parts.beforeRun.cycles / efficiency;
  result.afterCycles = parts.afterRun.cycles / efficiency;
  result.fullInstructions = static_cast<double>(parts.full.size());
  result.partialInstructions = static_cast<double>(parts.partial.size());
  fillShares(result, parts, total, chip);
  addNotes(result, kernel, paths);
  result.bound = boundOf(result);
  return result;
}

}  // namespace weft::timeline
