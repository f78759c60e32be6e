#include "runtime/roof.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <tuple>
#include <vector>

#include "compiler/peak.h"
#include "runtime/cpu/object_loader.h"
#include "runtime/cpu/thread_pool.h"
#include "runtime/cuda/data_sheet.h"
#include "runtime/cuda/driver.h"
#include "runtime/environment.h"

namespace weft {
namespace {

using Clock = std::chrono::steady_clock;

double secondsOf(const std::function<void()> &work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Units of work a second, at best: other programs only ever slow it. `run` does `count` units; a window is as many as last as long
/// as `window`, and there are windows until a hundred have brought nothing, for a second at most.
double bestRate(double window, const std::function<void(int64_t count)> &run) {
  int64_t count = 1;
  double seconds = 0;
  // Warms up, and the clock with it.
  while ((seconds = secondsOf([&] { run(count); })) < window) count = std::max(2 * count, static_cast<int64_t>(static_cast<double>(count) * 1.1 * window / std::max(seconds, window / 16)));
  double best = static_cast<double>(count) / seconds;
  const auto start = Clock::now();
  for (int idle = 0; idle < 100 && Clock::now() - start < std::chrono::seconds(1); ++idle) {
    const double rate = static_cast<double>(count) / secondsOf([&] { run(count); });
    if (rate > 1.005 * best) idle = 0;
    best = std::max(best, rate);
  }
  return best;
}

/// 64-byte aligned, one for each thread.
class Scratch {
 public:
  explicit Scratch(int threads) : words(static_cast<size_t>(threads) * peakScratchBytes / 4 + 16, peakFill) {}
  void *of(int worker) {
    const auto address = (reinterpret_cast<uintptr_t>(words.data()) + 63) / 64 * 64;
    return reinterpret_cast<void *>(address + static_cast<uintptr_t>(worker) * peakScratchBytes);
  }

 private:
  std::vector<uint32_t> words;
};

Roof measureArithmetic(ElementType type, int threads) {
  Roof best;
  for (const PeakLoop &loop : peakLoops(type, environment::cpu())) {
    const cpu::KernelFunction run = cpu::loadObject(loop.code, loop.entry);
    Scratch scratch(threads);
    constexpr int64_t turns = 64;
    const double rate = bestRate(1e-3, [&](int64_t count) {
      cpu::parallelFor(count, threads, [&](int64_t begin, int64_t end, int worker) { run(nullptr, begin * turns, end * turns, scratch.of(worker)); });
    });
    if (const double flops = rate * static_cast<double>(turns) * loop.flopsPerTurn; flops > best.rate) best = {flops, loop.chain};
  }
  best.of += " on " + std::to_string(threads) + (threads == 1 ? " thread" : " threads") + ", measured";
  return best;
}

Roof measureMemory(int threads) {
  // More than any cache holds, in parts that threads take in turns.
  constexpr int64_t part = 1 << 20, parts = 256;
  const auto words = std::make_unique<uint64_t[]>(part / 8 * parts);
  std::fill_n(words.get(), part / 8 * parts, uint64_t{1});
  std::vector<uint64_t> sums(static_cast<size_t>(threads) * 8);
  const double rate = bestRate(5e-3, [&](int64_t count) {
    for (int64_t turn = 0; turn < count; ++turn)
      cpu::parallelFor(parts, threads, [&](int64_t begin, int64_t end, int worker) {
        const uint64_t *from = words.get() + begin * part / 8, *last = words.get() + end * part / 8;
        sums[static_cast<size_t>(worker) * 8] += std::accumulate(from, last, uint64_t{0});
      });
  });
  // Read, so that the sums are made.
  if (std::accumulate(sums.begin(), sums.end(), uint64_t{0}) == 0) return {};
  return {rate * static_cast<double>(part * parts), "reading 256 MiB on " + std::to_string(threads) + (threads == 1 ? " thread" : " threads") + ", measured"};
}

/// f32 on a GPU is three products of tf32, or arithmetic without tensor cores: whatever is faster.
Roof ofSheet(const cuda::DataSheet &sheet, ElementType type) {
  const std::string from = std::string("data sheet of ") + sheet.product + ", dense ";
  if (type == ElementType::BF16) return {1e12 * sheet.bf16, from + "bf16"};
  if (type == ElementType::F16) return {1e12 * sheet.f16, from + "f16"};
  if (sheet.tf32 / 3 > sheet.f32) return {1e12 * sheet.tf32 / 3, from + "tf32, three products each"};
  return {1e12 * sheet.f32, from + "f32"};
}

const cuda::DataSheet *sheetOf(const Device &device) {
  const std::string identity = cuda::identity(device.index);
  return cuda::dataSheet(identity.substr(0, identity.find(',')));
}

std::optional<Roof> arithmetic(const Device &device, ElementType type, int threads, bool again) {
  if (device.kind == Device::Kind::PtxEmulator) return std::nullopt;
  if (device.kind == Device::Kind::Cuda) {
    const cuda::DataSheet *sheet = sheetOf(device);
    return sheet ? std::optional(ofSheet(*sheet, type)) : std::nullopt;
  }
  static std::mutex mutex;
  static std::map<std::tuple<std::string, ElementType, int>, Roof> known;
  std::lock_guard lock(mutex);
  Roof &roof = known[{environment::cpu(), type, threads}];
  if (roof.rate == 0 || again)
    if (Roof now = measureArithmetic(type, threads); now.rate > roof.rate) roof = now;
  return roof;
}

}  // namespace

std::optional<Roof> arithmeticRoof(const Device &device, ElementType type, int threads) { return arithmetic(device, type, threads, false); }
std::optional<Roof> arithmeticRoofAgain(const Device &device, ElementType type, int threads) { return arithmetic(device, type, threads, true); }

std::optional<Roof> memoryRoof(const Device &device, int threads) {
  if (device.kind == Device::Kind::PtxEmulator) return std::nullopt;
  if (device.kind == Device::Kind::Cuda) {
    const cuda::DataSheet *sheet = sheetOf(device);
    if (!sheet) return std::nullopt;
    return Roof{1e9 * sheet->gigabytes, std::string("data sheet of ") + sheet->product};
  }
  static std::mutex mutex;
  static std::map<int, Roof> known;
  std::lock_guard lock(mutex);
  Roof &roof = known[threads];
  if (roof.rate == 0) roof = measureMemory(threads);
  return roof;
}

}  // namespace weft
