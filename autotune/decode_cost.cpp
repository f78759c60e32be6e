#include "autotune/decode_cost.h"

#include <algorithm>
#include <cmath>

#include "autotune/timeline.h"
#include "autotune/timeline/chip.h"

namespace weft::autotune {

double DecodeMachine::bandwidthOf(double bytes) const {
  if (bandwidth.empty()) return 0;
  const auto above = std::ranges::find_if(bandwidth, [&](const auto &own) { return own.first >= bytes; });
  if (above == bandwidth.begin()) return bandwidth.front().second;
  if (above == bandwidth.end()) return bandwidth.back().second;
  const auto &[low, slow] = *(above - 1);
  const auto &[high, fast] = *above;
  const double share = std::log(bytes / low) / std::log(high / low);
  return slow * std::pow(fast / slow, share);
}

DecodeMachine gpuMachine(const std::string &name, const std::string &type) {
  // What a kernel takes that does nothing, launched behind another one: assumed.
  constexpr double launch = 2.5e-6;
  const timeline::Chip &chip = timeline::chip(name);
  DecodeMachine machine;
  machine.name = chip.product;
  machine.peak = timeline::peakTeraflops(chip, type != "f32") * 1e12;
  machine.bandwidth = {{0, chip.gigabytes * 1e9}};
  machine.units = chip.units;
  machine.unitBandwidth = chip.l2BytesPerCycle() * chip.clock * 1e9;
  machine.launch = launch;
  return machine;
}

Device gpuTiles(const std::string &name) {
  return parseDevice("ptx-emulator:" + timeline::architecture(timeline::chip(name)));
}

DecodeKernel kernelByPeak(const DecodeCount &count, const DecodeMachine &machine) {
  const double rate = machine.peak / machine.units;
  DecodeKernel kernel;
  if (count.keptTiles > 0) kernel.tile = count.executedFlops / static_cast<double>(count.keptTiles) / rate;
  if (count.tiles > 0) kernel.choosing = count.choosingFlops / static_cast<double>(count.tiles) / rate;
  return kernel;
}

const char *DecodeSeconds::bound() const {
  const std::pair<double, const char *> parts[] = {
      {launches, "launches"}, {choosing, "choosing"}, {memory, "memory"}, {arithmetic, "arithmetic"}};
  return std::ranges::max_element(parts)->second;
}

DecodeSeconds secondsOf(const DecodeCount &count, const DecodeMachine &machine, const DecodeKernel &kernel,
                        int64_t layers) {
  // Programs are heads of sequences: few of them leave units without work.
  const double running = static_cast<double>(std::clamp<int64_t>(count.programs, 1, machine.units));
  const double set = static_cast<double>(layers) * (count.keyBytes + count.choosingBytes);
  double rate = machine.bandwidthOf(set);
  if (machine.unitBandwidth > 0) rate = std::min(rate, running * machine.unitBandwidth);
  const double group = count.programs > 0 ? count.headBytes / static_cast<double>(count.programs) : 0;
  const bool stays = machine.ownCache == 0 || group < machine.ownCache;
  // What a measured tile has read from a cache is not read again.
  auto memory = [&](double bytes) {
    const double seconds = bytes / rate;
    return kernel.cached > 0 ? std::max(0.0, seconds - bytes / kernel.cached) : seconds;
  };
  auto together = [&](double a, double b) { return machine.overlaps ? std::max(a, b) : a + b; };
  DecodeSeconds seconds;
  seconds.launches = kernel.call + machine.launch * (count.kernels + count.clears);
  seconds.choosing =
      together(memory(count.choosingBytes), kernel.choosing * static_cast<double>(count.tiles) / running);
  seconds.memory =
      kernel.reading * memory((stays ? count.keyBytes : count.headBytes) + count.inputBytes + count.queryBytes);
  const double turns = std::max(static_cast<double>(count.keptTiles) / running, static_cast<double>(count.longest));
  seconds.arithmetic = kernel.tile * turns;
  seconds.all = seconds.launches + seconds.choosing + together(seconds.memory, seconds.arithmetic);
  return seconds;
}

double secondsOf(const DecodeWeights &weights, const DecodeMachine &machine, int64_t sequences) {
  if (weights.bytes <= 0) return 0;
  const double flops = 2 * weights.parameters * static_cast<double>(sequences);
  return std::max(weights.bytes / machine.bandwidthOf(weights.bytes), machine.peak > 0 ? flops / machine.peak : 0);
}

std::optional<int64_t> crossover(const std::vector<int64_t> &lengths, const std::function<double(int64_t)> &sparse,
                                 const std::function<double(int64_t)> &dense) {
  constexpr double gain = 0.99;
  constexpr int64_t step = 64, parts = 32;
  auto faster = [&](int64_t length) { return sparse(length) < gain * dense(length); };
  size_t at = lengths.size();
  while (at > 0 && faster(lengths[at - 1])) --at;
  if (at == lengths.size()) return std::nullopt;
  if (at == 0) return lengths[0];
  int64_t low = lengths[at - 1], high = lengths[at];
  while (high - low > std::max(step, low / parts)) {
    const int64_t middle = std::clamp((low + high) / 2 / step * step, low + 1, high - 1);
    (faster(middle) ? high : low) = middle;
  }
  return high;
}

}  // namespace weft::autotune
