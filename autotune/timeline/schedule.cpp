#include "autotune/timeline/schedule.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace weft::timeline {
namespace {

constexpr int warpsOfGroup = 4;
constexpr double never = std::numeric_limits<double>::infinity();
/// Cycles of work that a pipe takes on before it makes warps wait: queues of the load-store unit and of MUFU.
constexpr double sharedQueue = 16, specialQueue = 8;
/// How far apart blocks begin, in turns that they would take alone. How they stand to each other decides what they wait
/// for: steady() takes the mean of several.
constexpr double apart[] = {0.11, 0.31, 0.53, 0.83};

struct Warp {
  int block = 0, group = 0, scheduler = 0;
  size_t at = 0;
  int turns = 0;        ///< left, with this one
  int made = 0;         ///< turns, counted by window()
  double next = 0;      ///< after the instruction before
  double known = -1;    ///< when operands are there, of the instruction at `at`; below 0: not looked up
  int reason = 0;       ///< what was the last of them
  double copied = 0;    ///< the copies since the last commit
  double products = 0;  ///< the asynchronous products since the last group
  std::vector<double> groups, productGroups;  ///< when each committed group is there, in order
  std::vector<double> ready;                  ///< of each register
  std::vector<int8_t> from;                   ///< the pipe it comes from
};

class Unit {
 public:
  Unit(const std::vector<Step> &steps, int turns, const Resident &resident, int registers, const Chip &chip,
       double apart)
      : steps(steps),
        chip(chip),
        waiting(resident.blocks),
        warpsPerBlock(resident.warpsPerBlock),
        groups((resident.warpsPerBlock + warpsOfGroup - 1) / warpsOfGroup),
        turnsOf(resident.blocks * groups) {
    for (int block = 0; block < resident.blocks; ++block) turnsOf[block * groups].passed = warpsOfGroup;
    int number = 0;
    for (int block = 0; block < resident.blocks; ++block)
      for (int warp = 0; warp < resident.warpsPerBlock; ++warp, ++number) {
        Warp made;
        made.block = block;
        made.group = warp / warpsOfGroup;
        made.scheduler = number % schedulers;
        made.turns = turns;
        made.next = block * apart;
        made.ready.assign(registers, 0);
        made.from.assign(registers, 0);
        warps.push_back(std::move(made));
      }
    if (!steps.empty() && turns > 0) unfinished = warps.size();
  }

  /// Until all warps have made their turns.
  Run run() {
    while (unfinished > 0 && advance()) {
    }
    return result;
  }

  /// Of `turns` turns of all warps, from when each has made `warm`.
  Run window(int warm, int turns) {
    Run before;
    size_t cold = warps.size();
    const auto all = static_cast<double>(steps.size() * warps.size());
    while (cold > 0 && advance())
      if (latest->at == 0 && ++latest->made == warm) --cold;
    before = result;
    while (result.issued < before.issued + turns * all && advance()) {
    }
    const double share = result.issued > before.issued ? all / (result.issued - before.issued) : 0;
    auto subtract = [&](double &now, double then) { now = std::max(0.0, now - then) * share; };
    subtract(result.cycles, before.cycles);
    subtract(result.issued, before.issued);
    for (int at = 0; at < pipes; ++at) subtract(result.busy[at], before.busy[at]);
    for (int at = 0; at < waits; ++at) subtract(result.waited[at], before.waited[at]);
    return result;
  }

 private:
  /// Issues the next instruction of the SM; false where none can ever be.
  bool advance() {
    Warp *chosen = nullptr;
    double first = never;
    for (Warp &warp : warps) {
      if (warp.turns < 1) continue;
      const double time = earliest(warp);
      if (time < first || (time == first && chosen && before(warp, *chosen))) {
        first = time;
        chosen = &warp;
      }
    }
    if (!chosen) return false;  // all wait for a barrier that some have left: such code never ends
    latest = chosen;
    last[chosen->scheduler] = chosen;
    issue(*chosen, first);
    return true;
  }

  /// Of those that could issue at the same time, the one that issued last goes on; else the one that has not for
  /// longest.
  bool before(const Warp &a, const Warp &b) const {
    if (a.scheduler != b.scheduler) return false;
    if (&a == last[a.scheduler] || &b == last[b.scheduler]) return &a == last[a.scheduler];
    return a.next < b.next;
  }

  const std::vector<Step> &steps;
  const Chip &chip;
  std::vector<Warp> warps;
  std::vector<int> waiting;         ///< warps of each block at its barrier
  const int warpsPerBlock, groups;  ///< warpgroups of a block
  /// At the barrier of a warpgroup: warps that have passed the turn to it, its own that wait, and since when.
  struct Turn {
    int passed = 0;
    double since = 0;  ///< the last of them
    std::vector<std::pair<Warp *, double>> waiting;
  };
  std::vector<Turn> turnsOf;  ///< of each warpgroup, block after block
  std::array<std::array<double, pipes>, schedulers> free{};
  std::array<double, pipes> unitFree{};
  std::array<double, schedulers> slot{};
  std::array<const Warp *, schedulers> last{};  ///< that issued
  Warp *latest = nullptr;                       ///< of all
  size_t unfinished = 0;                        ///< warps
  Run result;

  /// When the operands of the warp's instruction are there.
  void lookUp(Warp &warp) {
    const Step &step = steps[warp.at];
    warp.known = warp.next;
    warp.reason = static_cast<int>(Wait::Slot);
    auto after = [&](double time, int reason) {
      if (time <= warp.known) return;
      warp.known = time;
      warp.reason = reason;
    };
    for (int number : step.reads) after(warp.ready[number], warp.from[number]);
    for (int number : step.writes) after(warp.ready[number] - step.latency, warp.from[number]);
    if (step.kind == Step::Kind::WaitCopies && static_cast<int>(warp.groups.size()) > std::max(step.number, 0))
      after(warp.groups[warp.groups.size() - 1 - std::max(step.number, 0)], static_cast<int>(Wait::Copies));
    if (step.kind == Step::Kind::WaitGroup && static_cast<int>(warp.productGroups.size()) > std::max(step.number, 0))
      after(warp.productGroups[warp.productGroups.size() - 1 - std::max(step.number, 0)],
            static_cast<int>(Pipe::Tensor));
  }

  double freeAt(const Warp &warp, const Step &step) const {
    if (step.pipe == Pipe::None || step.kind == Step::Kind::Group) return 0;
    const int pipe = static_cast<int>(step.pipe);
    const auto &own = free[warp.scheduler];
    if (step.pipe == Pipe::Shared) return unitFree[pipe] - sharedQueue;
    if (step.pipe == Pipe::Special) return own[pipe] - specialQueue;
    if (step.either) return std::min(own[pipe], own[static_cast<int>(Pipe::FmaOnly)]);
    return own[pipe];
  }

  double earliest(Warp &warp) {
    if (warp.next == never) return never;
    if (warp.known < 0) lookUp(warp);
    return std::max({warp.known, slot[warp.scheduler], freeAt(warp, steps[warp.at])});
  }

  void issue(Warp &warp, double time) {
    const Step &step = steps[warp.at];
    const double slotted = std::max(warp.known, slot[warp.scheduler]);
    result.waited[warp.reason] += warp.known - warp.next;
    result.waited[static_cast<int>(Wait::Slot)] += slotted - warp.known;
    result.waited[static_cast<int>(Wait::Busy)] += time - slotted;
    ++result.issued;
    slot[warp.scheduler] = time + 1;
    warp.next = time + step.pause;
    double done = time + step.latency;
    Pipe pipe = step.pipe;
    if (pipe != Pipe::None) {
      if (step.either &&
          free[warp.scheduler][static_cast<int>(Pipe::FmaOnly)] <= free[warp.scheduler][static_cast<int>(Pipe::Fma)])
        pipe = Pipe::FmaOnly;
      const int at = static_cast<int>(pipe);
      double &until = ofUnit(pipe) ? unitFree[at] : free[warp.scheduler][at];
      const double begin = std::max(until, time);
      until = begin + step.cycles;
      result.busy[at] += step.cycles * (ofUnit(pipe) ? schedulers : 1);
      done += begin - time;
    }
    if (step.l2Cycles > 0) {
      double &until = unitFree[static_cast<int>(Pipe::L2)];
      until = std::max(until, time) + step.l2Cycles;
      result.busy[static_cast<int>(Pipe::L2)] += step.l2Cycles * schedulers;
      done = std::max(done, until + step.latency);
      pipe = Pipe::L2;
    }
    if (step.copy) warp.copied = std::max(warp.copied, done);
    if (step.kind == Step::Kind::Group) {
      warp.products = std::max(warp.products, done);
      if (step.commits) commit(warp.productGroups, warp.products);
    } else {
      for (int number : step.writes) {
        warp.ready[number] = done;
        warp.from[number] = static_cast<int8_t>(pipe == Pipe::None ? Pipe::Alu : pipe);
      }
    }
    if (step.kind == Step::Kind::Commit) commit(warp.groups, warp.copied);
    result.cycles = std::max(result.cycles, time + 1);
    warp.known = -1;
    if (++warp.at == steps.size()) {
      warp.at = 0;
      if (--warp.turns == 0) --unfinished;
    }
    if (step.kind == Step::Kind::Barrier) arrive(warp, time);
    if (step.kind == Step::Kind::TakeTurn) takeTurn(warp, time);
    if (step.kind == Step::Kind::PassTurn) passTurn(warp, time);
  }

  void takeTurn(Warp &warp, double time) {
    Turn &turn = turnsOf[warp.block * groups + warp.group];
    turn.waiting.push_back({&warp, time});
    warp.next = never;
    begin(turn, time);
  }
  void passTurn(const Warp &warp, double time) {
    Turn &turn = turnsOf[warp.block * groups + (warp.group + 1) % groups];
    ++turn.passed;
    begin(turn, time);
  }
  /// Where the turn is a warpgroup's and all its warps are there.
  void begin(Turn &turn, double time) {
    turn.since = std::max(turn.since, time);
    if (turn.passed < warpsOfGroup || static_cast<int>(turn.waiting.size()) < warpsOfGroup) return;
    turn.passed -= warpsOfGroup;
    for (auto &[warp, since] : turn.waiting) {
      warp->next = turn.since + chip.latencies.barrier;
      result.waited[static_cast<int>(Wait::Barrier)] += warp->next - since;
    }
    turn.waiting.clear();
  }

  /// Groups are there in their order.
  static void commit(std::vector<double> &groups, double time) {
    constexpr size_t most = 64;  // more than any wait looks back
    groups.push_back(groups.empty() ? time : std::max(time, groups.back()));
    if (groups.size() > most) groups.erase(groups.begin(), groups.begin() + most / 2);
  }

  void arrive(Warp &warp, double time) {
    if (++waiting[warp.block] < warpsPerBlock) {
      warp.next = never;
      arrived.push_back({&warp, time});
      return;
    }
    waiting[warp.block] = 0;
    const double leave = time + chip.latencies.barrier;
    warp.next = leave;
    for (auto &[other, since] : arrived)
      if (other->block == warp.block) {
        other->next = leave;
        result.waited[static_cast<int>(Wait::Barrier)] += leave - since;
      }
    std::erase_if(arrived, [&](const auto &entry) { return entry.first->block == warp.block; });
  }
  std::vector<std::pair<Warp *, double>> arrived;  ///< at barriers, and when
};

}  // namespace

std::string nameOfWait(int wait) {
  if (wait < pipes) return std::string("results: ") + name(static_cast<Pipe>(wait));
  switch (static_cast<Wait>(wait)) {
    case Wait::Busy: return "a busy pipe";
    case Wait::Slot: return "their turn to issue";
    case Wait::Barrier: return "other warps at a barrier";
    case Wait::Copies: return "copies to shared memory";
  }
  return "?";
}

Run schedule(const std::vector<Step> &steps, int turns, const Resident &resident, int registers, const Chip &chip) {
  constexpr double launch = 100;  // cycles from one block's begin to the next one's
  return Unit(steps, turns, resident, registers, chip, launch).run();
}

Run steady(const std::vector<Step> &turn, const Resident &resident, int registers, const Chip &chip) {
  constexpr int warm = 2, measured = 4, endless = std::numeric_limits<int>::max();
  if (turn.empty()) return {};
  const double alone = schedule(turn, 2, {1, resident.warpsPerBlock}, registers, chip).cycles / 2;
  Run mean;
  for (double share : apart) {
    const Run run = Unit(turn, endless, resident, registers, chip, share * alone).window(warm, measured);
    mean.cycles += run.cycles / std::size(apart);
    mean.issued += run.issued / std::size(apart);
    for (int at = 0; at < pipes; ++at) mean.busy[at] += run.busy[at] / std::size(apart);
    for (int at = 0; at < waits; ++at) mean.waited[at] += run.waited[at] / std::size(apart);
  }
  return mean;
}

}  // namespace weft::timeline
