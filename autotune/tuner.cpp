#include "autotune/tuner.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <numeric>
#include <random>
#include <thread>

#include <torch/utils.h>

#include "autotune/call_timeline.h"
#include "autotune/model.h"
#include "autotune/samples.h"
#include "ops/call_site.h"
#include "ops/devices.h"
#include "ops/passes.h"
#include "ops/schedules.h"
#include "ops/variant_library.h"
#include "runtime/environment.h"
#include "runtime/ptxas.h"

namespace weft::autotune {
namespace {

using Clock = std::chrono::steady_clock;

/// A measured schedule must beat the default by more than noise to replace it.
constexpr double worthwhile = 0.99;
constexpr double precision = 0.02;
constexpr size_t firstSamples = 3, secondSamples = 8, confirmed = 7, lastSamples = 30;
/// The model leaves out what it thinks this much slower than the best.
constexpr double hopeless = 3;
/// Of the budget, for predictions by machine code.
constexpr double predictionShare = 0.25;
constexpr char uncompiled[] = "not compiled within half of the budget";

double tolerance(ElementType type) { return type == ElementType::F32 ? 1e-4 : type == ElementType::BF16 ? 4e-2 : 5e-3; }

/// Largest difference, relative to the largest value (at least 1).
double difference(const std::vector<at::Tensor> &got, const std::vector<at::Tensor> &want) {
  double worst = 0;
  for (size_t at = 0; at < want.size(); ++at) {
    if (!want[at].defined() || want[at].numel() == 0) continue;
    const at::Tensor a = got[at].to(at::kFloat), b = want[at].to(at::kFloat);
    const at::Tensor finite = b.isfinite();
    const at::Tensor off = at::where(finite, (a - b).abs(), at::where(a == b, 0.0, INFINITY));
    const double scale = std::max(1.0, at::where(finite, b.abs(), 0.0).max().item<double>());
    const double own = off.max().item<double>() / scale;
    worst = std::isnan(own) ? INFINITY : std::max(worst, own);
  }
  return worst;
}

class Search {
 public:
  Search(const Problem &problem, const TuneOptions &options)
      : problem(problem),
        options(options),
        variant(ops::variantOfCall(problem.variant, problem.names, problem.tensors)),
        device(ops::deviceOf(problem.tensors)),
        cache(device),
        random(options.seed + 1),
        start(Clock::now()) {}

  Outcome run() {
    if (device.kind == Device::Kind::PtxEmulator)
      throw std::runtime_error("the PTX emulator has no speed to tune for; tune on a GPU (--device cuda) or the CPU");
    Outcome outcome;
    TuningEntry &entry = outcome.entry;
    entry.key =
        ops::tuningKey(*variant, ops::shapeOf(variant, problem.names, problem.tensors), device, problem.backward);
    if (!options.again && known(entry)) {
      outcome.end = Outcome::End::Known;
      return outcome;
    }
    // One search on a device at a time: two would slow each other, and one of the same call finds the other's result.
    while (true) {
      lock = cache.tuningLock();
      if (lock->held() || !lock->possible()) break;
      report("waiting", 0, 0, entry);
      if (options.stop && options.stop()) {
        outcome.end = Outcome::End::Stopped;
        return outcome;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    start = Clock::now();  // waiting is not charged
    if (!options.again && known(entry)) {
      outcome.end = Outcome::End::Known;
      return outcome;
    }
    entry.build = buildIdentity();
    entry.shape = problem.shape;
    entry.clockGhz = clockGhz();
    entry.complete = false;
    search(outcome);
    entry.complete = outcome.end == Outcome::End::Complete;
    cache.store(entry);
    return outcome;
  }

 private:
  const Problem &problem;
  const TuneOptions &options;
  std::shared_ptr<const Variant> variant;
  const Device device;
  const ScheduleCache cache;
  std::mt19937_64 random;
  Clock::time_point start;
  std::unique_ptr<FileLock> lock;
  std::vector<std::unique_ptr<Trial>> trials;  ///< of entry.points, where they can run
  std::vector<TuningPoint> space;              ///< all there is, the default first, then by the model
  std::optional<Saved> saved;
  size_t measured = 0;

  static bool sameTiles(const Schedule &a, const Schedule &b) {
    return a.tileQ == b.tileQ && a.tileK == b.tileK && a.keysQ == b.keysQ && a.keysK == b.keysK && a.form == b.form;
  }

  /// Takes over what the cache has of this compiler's code; true where the search is complete.
  bool known(TuningEntry &entry) {
    auto found = cache.find(entry.key);
    if (!found || found->build != buildIdentity()) return false;
    entry = *found;
    return entry.complete;
  }

  double left() const { return options.budget - std::chrono::duration<double>(Clock::now() - start).count(); }
  bool stopped() const { return options.stop && options.stop(); }

  void report(const char *stage, size_t done, size_t total, const TuningEntry &entry) {
    if (options.progress)
      options.progress(
          {stage, done, total, entry.schedule, entry.seconds, entry.defaultSeconds, std::max(0.0, left())});
  }

  /// A GPU that there is a timing model of, with ptxas: the best by the count are predicted by their machine code.
  void refineByCode(const ops::Binding &call, const ops::KeptPattern &pattern, TuningEntry &entry) {
    if (device.kind != Device::Kind::Cuda || findPtxas().empty()) return;
    const std::string &name = cache.deviceName();
    const timeline::Chip *chip = timeline::chipOfDriver(name.substr(0, name.find(',')));
    if (!chip) return;
    const CallTimeline kernels(call, pattern, problem.backward, *chip);
    predictByCode(
        kernels, entry.points, refinedCandidates,
        [&](size_t done, size_t total) { report("predicting", done, total, entry); },
        [&] { return stopped() || left() < (1 - predictionShare) * options.budget; });
    for (TuningPoint &point : entry.points) point.note.clear();  // compiling it says again what is wrong
  }

  Schedule untuned(bool backward) const {
    return ops::untunedSchedule(*variant, ops::shapeOf(variant, problem.names, problem.tensors), device, backward);
  }

  /// The points to measure, the default first, then by the model; with the samples the cache has of them.
  void choose(TuningEntry &entry) {
    const std::vector<TuningPoint> before = std::move(entry.points);
    entry.points.clear();
    const Schedule first = untuned(problem.backward);
    ops::KernelSet set(variant, entry.key.type, entry.key.headDims, device, first);
    ops::Binding call(set, problem.names, problem.tensors);
    const ops::KeptPattern pattern(call);
    entry.points = countedSpace(call, pattern, problem.backward, entry.clockGhz > 0 ? entry.clockGhz : 2.5);
    refineByCode(call, pattern, entry);
    space = entry.points;
    // Of each tile size and form the one the model likes best; order and register blocks are tried for the winners.
    std::vector<TuningPoint> list{entry.points[0]};
    for (size_t at = 1; at < space.size() && list.size() < options.candidates; ++at) {
      const bool seen = std::any_of(list.begin(), list.end(),
                                    [&](const TuningPoint &p) { return sameTiles(p.schedule, space[at].schedule); });
      if (!seen && space[at].predicted <= hopeless * space[1].predicted) list.push_back(space[at]);
    }
    // What an earlier, unfinished search has measured stays.
    for (const TuningPoint &old : before)
      if (!old.samples.empty() &&
          std::none_of(list.begin(), list.end(), [&](const TuningPoint &p) { return p.schedule == old.schedule; }))
        list.push_back(old);
    entry.points = list;
    for (TuningPoint &point : entry.points)
      for (const TuningPoint &old : before)
        if (old.schedule == point.schedule) point.samples = old.samples;
  }

  /// Compiles on all cores. A CPU does nothing else meanwhile: what it measured would be slowed.
  void compile(TuningEntry &entry) {
    const size_t first = trials.size(), count = entry.points.size() - first;
    for (size_t at = first; at < entry.points.size(); ++at)
      trials.push_back(std::make_unique<Trial>(problem, entry.points[at].schedule));
    std::atomic<size_t> next{first}, done{0};
    std::vector<std::string> errors(trials.size());
    auto work = [&] {
      for (size_t at; (at = next++) < trials.size();) {
        if (at > 0 && (left() < options.budget / 2 || stopped())) {
          errors[at] = uncompiled;
          ++done;
          continue;
        }
        try {
          trials[at]->compile();
        } catch (const c10::Error &error) {
          errors[at] = error.what_without_backtrace();
        } catch (const std::exception &error) {
          errors[at] = error.what();
        }
        ++done;
      }
    };
    std::vector<std::thread> workers;
    for (unsigned count = std::max(1u, std::thread::hardware_concurrency()); count > 0; --count)
      workers.emplace_back(work);
    while (done < count) {
      report("compiling", done, count, entry);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    for (std::thread &worker : workers) worker.join();
    for (size_t at = first; at < trials.size(); ++at) {
      entry.points[at].note = errors[at];
      if (!errors[at].empty()) trials[at].reset();
    }
    if (!trials[0]) throw std::runtime_error("the default schedule does not compile: " + errors[0]);
  }

  /// The best of what was measured: the default unless another one is faster beyond noise. `fresh`: samples taken in
  /// rounds, one of each schedule a round.
  void decide(TuningEntry &entry, const std::vector<size_t> &among,
              const std::vector<std::vector<double>> *fresh = nullptr) {
    auto time = [&](size_t at) { return median(fresh ? (*fresh)[at] : entry.points[at].samples); };
    if (time(0) > 0) entry.defaultSeconds = time(0);
    size_t best = 0;
    for (size_t at : among)
      if (time(at) > 0 && (time(best) == 0 || time(at) < time(best))) best = at;
    if (best != 0 && time(0) > 0 && time(best) > worthwhile * time(0)) best = 0;
    // Where there are rounds enough to tell, they must tell.
    if (best != 0 && fresh && (*fresh)[best].size() >= confirmed &&
        !ratioOfRounds((*fresh)[best], (*fresh)[0]).below(1))
      best = 0;
    entry.schedule = entry.points[best].schedule;
    entry.seconds = time(best);
  }

  enum class Round { Done, Spent, Stopped };

  /// Rounds over `among` until each has `samples`; keeps each round in the cache.
  Round measure(TuningEntry &entry, const std::vector<size_t> &among, size_t samples, const char *stage) {
    size_t total = 0, done = 0;
    for (size_t at : among) total += std::max(samples, entry.points[at].samples.size());
    auto count = [&] {
      done = 0;
      for (size_t at : among) done += entry.points[at].samples.size();
    };
    for (size_t round = 0; round < samples; ++round) {
      std::vector<size_t> order = among;
      std::shuffle(order.begin(), order.end(), random);
      // The default comes first once: there must be something to compare with however small the budget.
      if (round == 0) std::swap(*order.begin(), *std::find(order.begin(), order.end(), size_t{0}));
      bool any = false;
      for (size_t at : order) {
        if (entry.points[at].samples.size() > round) continue;
        if (left() <= 0 && !entry.points[0].samples.empty()) return Round::Spent;
        if (stopped()) return Round::Stopped;
        entry.points[at].samples.push_back(trials[at]->seconds(saved, options.flush));
        ++measured;
        any = true;
        decide(entry, among);
        cache.store(entry);  // before it is reported
        count();
        report(stage, done, total, entry);
      }
      if (!any) count();
    }
    return Round::Done;
  }

  std::vector<size_t> fastest(const TuningEntry &entry, std::vector<size_t> among, size_t count) {
    std::sort(among.begin(), among.end(),
              [&](size_t a, size_t b) { return median(entry.points[a].samples) < median(entry.points[b].samples); });
    if (among.size() > count) among.resize(count);
    if (std::find(among.begin(), among.end(), size_t{0}) == among.end()) among.push_back(0);
    return among;
  }

  /// Adds the other orders and register blocks, or stages, of the two fastest to `among`.
  void refine(TuningEntry &entry, std::vector<size_t> &among) {
    for (size_t best : fastest(entry, among, 2)) {
      size_t added = 0;
      for (const TuningPoint &other : space)
        if (added < 4 && sameTiles(other.schedule, entry.points[best].schedule) &&
            std::none_of(
                entry.points.begin(), entry.points.end(),
                [&](const TuningPoint &p) { return p.schedule == other.schedule; })) {
          entry.points.push_back({other.schedule, other.predicted, {}, ""});
          ++added;
        }
    }
    const size_t before = trials.size();
    compile(entry);
    for (size_t at = before; at < trials.size(); ++at)
      if (trials[at]) among.push_back(at);
  }

  /// The last few against the default, with samples of this process alone, until the best is known to 2 %.
  Round confirm(TuningEntry &entry, std::vector<size_t> &among) {
    const std::vector<at::Tensor> want = trials[0]->run(saved);
    std::vector<size_t> right;
    for (size_t at : among) {
      const double off = at == 0 ? 0 : difference(trials[at]->run(saved), want);
      if (off <= tolerance(entry.key.type)) right.push_back(at);
      else entry.points[at].note = "its result differs from the default's by " + std::to_string(off);
    }
    among = right;
    std::vector<std::vector<double>> fresh(entry.points.size());
    for (size_t round = 0; round < lastSamples; ++round) {
      std::vector<size_t> order = among;
      std::shuffle(order.begin(), order.end(), random);
      for (size_t at : order) {
        if (left() <= 0 && round > 0) return Round::Spent;
        if (stopped()) return Round::Stopped;
        fresh[at].push_back(trials[at]->seconds(saved, options.flush));
        entry.points[at].samples.push_back(fresh[at].back());
        ++measured;
      }
      decide(entry, among, &fresh);
      cache.store(entry);
      report("confirming", round + 1, lastSamples, entry);
      double widest = 0;
      for (size_t at : among) widest = std::max(widest, uncertainty(fresh[at]));
      if (round + 1 >= confirmed && widest <= precision) break;
    }
    return Round::Done;
  }

  void search(Outcome &outcome) {
    TuningEntry &entry = outcome.entry;
    at::NoGradGuard guard;
    choose(entry);
    if (problem.backward) {
      Problem before = problem;
      before.backward = false;
      Trial forward(before, untuned(false));
      const auto out = forward.run({});
      saved = Saved{out[0], out[1], at::randn_like(out[0])};
    }
    compile(entry);
    std::vector<size_t> among;
    for (size_t at = 0; at < trials.size(); ++at)
      if (trials[at]) among.push_back(at);
    const Round first = measure(entry, among, firstSamples, "measuring");
    Round last = first;
    if (last == Round::Done) {
      among = fastest(entry, among, std::max<size_t>(4, among.size() / 3));
      refine(entry, among);
      last = measure(entry, among, secondSamples, "measuring");
    }
    if (last == Round::Done) {
      among = fastest(entry, among, 3);
      last = confirm(entry, among);
    }
    outcome.measured = measured;
    // What there was no time to compile is for the next call.
    const bool all = std::none_of(entry.points.begin(), entry.points.end(),
                                  [](const TuningPoint &p) { return p.note == uncompiled; });
    if (last == Round::Done && !all) last = stopped() ? Round::Stopped : Round::Spent;
    outcome.end = last == Round::Done    ? Outcome::End::Complete
                  : last == Round::Spent ? Outcome::End::BudgetSpent
                                         : Outcome::End::Stopped;
  }
};

std::vector<double> ranks(const std::vector<double> &values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> rank(values.size());
  for (size_t at = 0; at < order.size(); ++at) rank[order[at]] = static_cast<double>(at);
  return rank;
}

/// WEFT_TUNE=1: called by the operator before a call's first run.
const bool registered = [] {
  ops::setTuner(
      [](const std::string &variant, const std::vector<std::string> &names, at::TensorList tensors, bool backward) {
        Problem problem{variant, names, tensors.vec(), backward, ""};
        const ops::CallShape shape = ops::shapeOf(ops::variantOfCall(variant, names, tensors), names, tensors);
        problem.shape = "1," + std::to_string(bucketOf(shape.heads)) + "," + std::to_string(bucketOf(shape.rows)) +
                        "," + std::to_string(shape.headDims.begin()->second);
        tune(problem, {});
        ops::forgetSchedules();
      });
  return true;
}();

}  // namespace

Outcome tune(const Problem &problem, const TuneOptions &options) { return Search(problem, options).run(); }

double rankCorrelation(const TuningEntry &entry) {
  std::vector<double> predicted, times;
  for (const TuningPoint &point : entry.points)
    if (!point.samples.empty()) {
      predicted.push_back(point.predicted);
      times.push_back(median(point.samples));
    }
  if (times.size() < 3) return 0;
  const std::vector<double> a = ranks(predicted), b = ranks(times);
  double sum = 0;
  for (size_t at = 0; at < a.size(); ++at) sum += (a[at] - b[at]) * (a[at] - b[at]);
  const double n = static_cast<double>(a.size());
  return 1 - 6 * sum / (n * (n * n - 1));
}

}  // namespace weft::autotune
