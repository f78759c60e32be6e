#include "runtime/cpu/roof.h"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "compiler/peak.h"
#include "runtime/cpu/object_loader.h"
#include "runtime/cpu/thread_pool.h"
#include "runtime/environment.h"

namespace weft::cpu {
namespace {

using Clock = std::chrono::steady_clock;

/// Of this thread alone: what other programs take of the CPU meanwhile does not count.
double threadSeconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Units of work a second of all threads together, each at the rate that `share` of its stretches of a tenth of a
/// millisecond do not exceed. They run at the same time, on a machine that lets them: for a tenth of a second of their
/// own, one at most on the clock. `work` does `count` units.
double steadyRate(int threads, double share, const std::function<void(int thread, int64_t count)> &work) {
  std::vector<double> rates(static_cast<size_t>(threads));
  std::atomic<int> arrived{0};
  auto measure = [&](int thread) {
    const auto start = Clock::now();
    auto wall = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
    for (++arrived; arrived < threads && wall() < 0.05;) std::this_thread::yield();
    auto timed = [&](int64_t count) {
      const double before = threadSeconds();
      work(thread, count);
      return threadSeconds() - before;
    };
    int64_t count = 1;
    while (timed(count) < 1e-4) count *= 2;
    std::vector<double> stretches;
    for (double own = 0; stretches.size() < 3 || (own < 0.1 && wall() < 1);) {
      const double seconds = timed(count);
      own += seconds;
      stretches.push_back(static_cast<double>(count) / seconds);
    }
    std::sort(stretches.begin() + static_cast<std::ptrdiff_t>(stretches.size() / 10),
              stretches.end());  // the first warm up
    const size_t first = stretches.size() / 10;
    rates[static_cast<size_t>(thread)] =
        stretches[first + static_cast<size_t>(share * static_cast<double>(stretches.size() - 1 - first))];
  };
  parallelFor(threads, threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t thread = begin; thread < end; ++thread) measure(static_cast<int>(thread));
  });
  return std::accumulate(rates.begin(), rates.end(), 0.0);
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

}  // namespace

Roof measureArithmetic(ElementType type, int threads) {
  Roof best;
  for (const PeakLoop &loop : peakLoops(type, environment::cpu())) {
    const KernelFunction run = loadObject(loop.code, loop.entry);
    Scratch scratch(threads);
    // Most of the best: single stretches may have had a shared core to themselves.
    const double rate =
        steadyRate(threads, 0.9, [&](int thread, int64_t turns) { run(nullptr, 0, turns, scratch.of(thread)); });
    if (const double flops = rate * loop.flopsPerTurn; flops > best.rate) best = {flops, loop.chain};
  }
  best.of += " on " + std::to_string(threads) + (threads == 1 ? " thread" : " threads") + ", measured";
  return best;
}

Roof measureMemory(int threads) {
  // Each thread reads on from part to part of its own share, which together are more than caches hold.
  constexpr int64_t part = 1 << 18;
  const int64_t parts = std::max<int64_t>(4, 1024 / threads), share = part * parts;
  const auto words = std::make_unique<uint64_t[]>(static_cast<size_t>(share / 8 * threads));
  std::fill_n(words.get(), share / 8 * threads, uint64_t{1});
  struct alignas(64) Reader {
    int64_t next = 0;
    uint64_t sum = 0;  ///< so that the reading is done
  };
  std::vector<Reader> readers(static_cast<size_t>(threads));
  const double rate = steadyRate(threads, 0.5, [&](int thread, int64_t count) {
    Reader &reader = readers[static_cast<size_t>(thread)];
    for (int64_t turn = 0; turn < count; ++turn) {
      const uint64_t *from = words.get() + (thread * share + reader.next * part) / 8;
      reader.sum += std::accumulate(from, from + part / 8, uint64_t{0});
      reader.next = (reader.next + 1) % parts;
    }
  });
  for (const Reader &reader : readers)
    if (reader.sum == 0) return {};
  return {rate * static_cast<double>(part),
          "reading 256 MiB on " + std::to_string(threads) + (threads == 1 ? " thread" : " threads") + ", measured"};
}

}  // namespace weft::cpu
