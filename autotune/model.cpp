#include "autotune/model.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "autotune/space.h"
#include "ops/devices.h"
#include "runtime/environment.h"

namespace weft::autotune {

Model::Model(const ops::Binding &call, const ops::KeptPattern &pattern, bool backward, double clockGhz)
    : call(call), pattern(pattern), backward(backward), clockGhz(clockGhz) {
  for (const InputInfo &input : call.set.variant->inputs()) {
    if (!input.isRow) continue;
    const double width = static_cast<double>(call.set.headDims.at(input.dims.back()));
    if (input.name == "v") e = width;
    else if (input.querySide) d += width;
  }
  if (call.set.device.kind != Device::Kind::Cpu) return;
  facts = cpuFacts(environment::cpu());
  amx = facts.amx && call.set.type == ElementType::BF16;
  pairs = facts.pairs && call.set.type == ElementType::BF16;
  auto size = [](int name, double otherwise) {
    const long bytes = sysconf(name);
    return bytes > 0 ? static_cast<double>(bytes) : otherwise;
  };
  firstCache = size(_SC_LEVEL1_DCACHE_SIZE, 32 << 10);
  secondCache = size(_SC_LEVEL2_CACHE_SIZE, 1 << 20);
}

const Model::Tiles &Model::tiles(int tileQ, int tileK) {
  auto [slot, added] = tilesBySize.try_emplace({tileQ, tileK});
  if (!added) return slot->second;
  for (int64_t head = 0; head < pattern.heads(); ++head) {
    if (!pattern.leads(head, tileQ)) continue;
    const auto count = pattern.count(head, tileQ, tileK);
    slot->second.all += static_cast<double>(count.kept);
    slot->second.longest = std::max(slot->second.longest, static_cast<double>(count.longest));
    slot->second.rows += static_cast<double>(pattern.rowsOf(tileQ));
  }
  return slot->second;
}

/// rows x columns x depth in register blocks: a step of a block of r x v registers takes as long as its r v FMAs (two
/// a cycle), its r + v loads (two a cycle), or the four cycles an FMA waits for the one before.
double Model::productCycles(double rows, double columns, double depth, int blockRows) const {
  if (amx) return std::ceil(rows / 16) * std::ceil(columns / 16) * (std::ceil(depth / 32) * 16 + 24);
  if (pairs) depth = std::ceil(depth / 2);
  auto blocks = [&](double vectors) {
    double cycles = 0, left = rows;
    for (int r : {blockRows, 4, 2, 1}) {
      const double count = std::floor(left / r);
      left -= count * r;
      cycles += count * (depth * std::max({r * vectors / 2, (r + vectors) / 2, 4.0}) + 10);
    }
    return cycles;
  };
  const double most = std::max(1, (facts.registers >= 32 ? 24 : 12) / blockRows);
  const double total = std::ceil(columns / facts.lanes), groups = std::floor(total / most),
               rest = total - groups * most;
  return groups * blocks(most) + (rest > 0 ? blocks(rest) : 0);
}

/// Cycles of one kept tile.
double Model::cpuCycles(const Schedule &schedule, double tileQ, double tileK, bool fused) const {
  const int block = schedule.blockRows;
  const double vectors = tileQ * tileK / facts.lanes;
  const double logits = productCycles(tileK, tileQ, d, block), values = productCycles(e, tileQ, tileK, block);
  double cycles = 0;
  // bf16 and f16 become f32, or pairs, as they are read.
  const double converted =
      call.set.type == ElementType::F32 ? 0 : tileK * (d + e) / facts.lanes * (amx || pairs ? 1 : 2);
  const double probabilities = amx || pairs ? vectors * 1.5 : 0;
  if (!backward) {
    cycles = logits + values + vectors * 14 + e * tileQ / facts.lanes * 2 + converted + probabilities + 300;
  } else {
    const double gradients = productCycles(tileK, e, tileQ, block) + productCycles(tileK, d, tileQ, block);
    const double query = productCycles(d, tileQ, tileK, block), doV = productCycles(tileK, tileQ, e, block);
    const double element = vectors * 18 + 400 + converted + 2 * probabilities;
    const double added = tileK * (d + e) / facts.lanes * 3;  // sums of dk and dv in memory
    cycles = fused ? logits + doV + gradients + query + element + added
                   : 2 * (logits + doV + element) + gradients + query + added;
  }
  // Logits, and in the backward pass ds and p, are gone over three times: from L2 where L1 has no room for them.
  const double logitBytes = tileQ * tileK * 4 * (backward ? 3 : 1);
  if (logitBytes > firstCache / 2) cycles += 3 * logitBytes / 32;
  const double working = logitBytes + (tileQ + tileK) * (d + e) * (backward ? 8 : 4);
  if (working > secondCache / 2) cycles += 3 * working / 12;
  const double bytes = static_cast<double>(bytesOf(call.set.type)) * (d + e);
  const double headBytes = static_cast<double>(call.S) * bytes;
  cycles += tileK * bytes / (headBytes < secondCache / 2 && schedule.order == Order::TilesInner ? 40 : 12);
  return cycles;
}

/// As many mma.sync, exponentials and bytes as the kernel has, at the rates of an SM of compute capability 8.0 to 9.0.
/// Counted in an instant; what looks good is refined by its machine code (timeline.h).
double Model::gpuSeconds(const Schedule &schedule, const Tiles &kept, BackwardForm form) const {
  const double tileQ = schedule.tileQ, tileK = schedule.tileK;
  const bool fused = form != BackwardForm::TwoPass;
  const double products = backward ? (fused ? 5 : 7) / 2.0 * (d + e) : d + e;
  const bool f32 = call.set.type == ElementType::F32;
  // f32 is three products of tf32, each at half the rate of 16-bit ones.
  const double mma = tileQ * tileK * products / (f32 ? 1024.0 / 6 : 1024),
               element = tileQ * tileK * (backward ? 6 : 4) / 64;
  double bytes = tileK * (d + e) * static_cast<double>(bytesOf(call.set.type));
  // Atomic sums read and write: of dk and dv, or of dq.
  if (form == BackwardForm::FusedQueries) bytes += 2 * 4 * tileK * (d + e);
  if (form == BackwardForm::FusedKeys) bytes += 2 * 4 * tileQ * d;
  const double shared = tileQ * (d + e) * (f32 ? 4 : 2) + schedule.stages * tileK * (d + e) * (f32 ? 4 : 2);
  // Accumulators and logits are in registers: spilled ones cost.
  const double warps = std::max(1.0, std::min(4.0, std::min(tileQ, tileK) / 16)), threads = warps * 32;
  const double registers = (tileQ * tileK + (backward ? tileQ * tileK + tileK * (d + e) : tileQ * e)) / threads + 40;
  const double spilled = std::max(0.0, registers - 240);
  const double blocks =
      std::max(1.0, std::min(std::floor(200e3 / shared), std::floor(65536 / (threads * std::min(registers, 255.0)))));
  // Few warps do not fill the pipes; more stages hide the way from memory. What does not overlap adds up.
  const double busy = std::min(1.0, blocks * warps / 8.0) * (schedule.stages > 1 ? 1 : 0.7);
  const double cycles = (std::max(mma, bytes / 20) + element + spilled * threads / 8 + 60) / busy;
  constexpr double units = 132, clock = 1.6e9;
  const double order = schedule.order == Order::HeadsInner ? 0.5 : 1;  // of the longest program, at the end
  const double running = std::min(units, std::max(kept.rows, 1.0));
  return (kept.all * cycles / running + order * kept.longest * cycles) / clock;
}

double Model::predict(const Schedule &schedule) {
  const Tiles &kept = tiles(schedule.tileQ, schedule.tileK);
  const BackwardForm form = backward ? ops::backwardForm(call, schedule.form) : BackwardForm::Fused;
  if (call.set.device.kind != Device::Kind::Cpu) return gpuSeconds(schedule, kept, form);
  const bool fused = form != BackwardForm::TwoPass;
  const double tile = cpuCycles(schedule, schedule.tileQ, schedule.tileK, fused);
  const double row = schedule.tileQ * (d + e) / facts.lanes * 6 + 500;
  const double total = kept.all * tile + kept.rows * row;
  const double threads = std::max(1, ops::threadCount());
  // The fused pass is one program a group: its queries are in turn.
  const double programs = backward && fused ? static_cast<double>(call.B * call.G) : kept.rows;
  const double longest = backward && fused ? total / programs : kept.longest * tile + row;
  const double rounds = std::ceil(programs / threads) * longest;
  const double seconds =
      backward && fused ? std::max(total / threads, rounds) : total / threads + longest * (1 - 1 / threads) / 2;
  return seconds / (clockGhz * 1e9);
}

std::vector<TuningPoint> countedSpace(const ops::Binding &call, const ops::KeptPattern &pattern, bool backward,
                                      double clockGhz) {
  Model model(call, pattern, backward, clockGhz);
  std::vector<TuningPoint> points;
  for (const Schedule &schedule : searchSpace(call, backward))
    points.push_back({schedule, model.predict(schedule), {}, ""});
  sortByPrediction(points);
  return points;
}

void sortByPrediction(std::vector<TuningPoint> &points) {
  std::stable_sort(points.begin() + 1, points.end(),
                   [](const TuningPoint &a, const TuningPoint &b) { return a.predicted < b.predicted; });
}

}  // namespace weft::autotune
