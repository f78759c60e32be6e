#include "autotune/decode_cost.h"

#include <algorithm>
#include <cmath>

#include "autotune/timeline.h"
#include "autotune/timeline/chip.h"

namespace weft::autotune {

namespace {

using Curve = std::vector<std::pair<double, double>>;  ///< by rising bytes, above 0

/// Between two points along a line of logarithms, outside as the nearest one.
double at(const Curve &curve, double bytes) {
  const auto above = std::ranges::find_if(curve, [&](const auto &own) { return own.first >= bytes; });
  if (above == curve.begin()) return curve.front().second;
  if (above == curve.end()) return curve.back().second;
  const auto &[low, before] = *(above - 1);
  const auto &[high, behind] = *above;
  return before * std::pow(behind / before, std::log(bytes / low) / std::log(high / low));
}

}  // namespace

double DecodeMachine::bandwidthOf(double bytes) const { return bandwidth.empty() ? 0 : at(bandwidth, bytes); }

double DecodeKernel::plainByte(double rate) const { return std::max(0.0, 1 / rate - (cached > 0 ? 1 / cached : 0)); }

double DecodeKernel::farByte(double bytes, double rate) const {
  const double plain = plainByte(rate);
  if (far.empty()) return plain;
  const double own = at(far, bytes);
  return bytes > far.back().first && farPlain > 0 ? own * std::max(1.0, plain / farPlain) : own;
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
  auto together = [&](double a, double b) { return machine.overlaps ? std::max(a, b) : a + b; };
  DecodeSeconds seconds;
  seconds.launches = kernel.call + machine.launch * (count.kernels + count.clears);
  seconds.choosing = together(count.choosingBytes * kernel.plainByte(rate),
                              kernel.choosing * static_cast<double>(count.tiles) / running);
  seconds.memory =
      kernel.farByte(set, rate) * ((stays ? count.keyBytes : count.headBytes) + count.inputBytes + count.queryBytes);
  const double turns = std::max(static_cast<double>(count.keptTiles) / running, static_cast<double>(count.longest));
  const double programs = std::ceil(static_cast<double>(std::max<int64_t>(count.programs, 1)) / running);
  seconds.arithmetic = kernel.tile * turns + kernel.program * programs;
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
