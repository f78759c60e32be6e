#include "autotune/timeline/paths.h"

#include <algorithm>
#include <functional>
#include <limits>

namespace weft::timeline {
namespace {

bool isBranch(const Instruction &instruction) { return instruction.is("BRA") || instruction.is("JMP"); }
bool isExit(const Instruction &instruction) { return instruction.is("EXIT") || instruction.is("RET"); }

struct Loop {
  int head = 0;
  std::vector<int> latches;  ///< branches back to the head
  std::vector<char> body;    ///< of each instruction: it is part of the loop
  int size = 0, tensor = 0;
};

/// Which instruction may follow which. Instructions that the entry does not reach are left out.
class Flow {
 public:
  explicit Flow(const std::vector<Instruction> &code) : code(code), next(code.size()), place(code.size(), -1) {
    const int count = static_cast<int>(code.size());
    for (int at = 0; at < count; ++at) {
      const Instruction &instruction = code[at];
      if (isBranch(instruction) && instruction.target >= 0) next[at].push_back(instruction.target);
      const bool goesOn = !(isBranch(instruction) || isExit(instruction)) || instruction.guarded;
      if (goesOn && at + 1 < count) next[at].push_back(at + 1);
    }
    walk();
    findLoops();
  }

  std::vector<Loop> loops;
  const std::vector<int> &followers(int at) const { return next[at]; }

  /// The lightest way from `from` to an instruction that `isGoal`, forwards, through those that `allowed`; empty where
  /// there is none.
  Path lightest(int from, const std::function<bool(int)> &isGoal, const std::function<bool(int)> &allowed,
                const std::function<double(int)> &weight) const {
    constexpr double none = std::numeric_limits<double>::infinity();
    if (from < 0 || from >= static_cast<int>(code.size()) || place[from] < 0 || !allowed(from)) return {};
    const int first = place[from];
    std::vector<double> cost(order.size() - first, none);
    std::vector<int> follower(cost.size(), -1);
    for (int at = static_cast<int>(order.size()) - 1; at >= first; --at) {
      const int node = order[at];
      if (!allowed(node)) continue;
      double best = isGoal(node) ? 0 : none;
      for (int other : next[node]) {
        if (place[other] <= at || !allowed(other)) continue;
        const double there = cost[place[other] - first];
        // A guarded end is not the end where there is a way on.
        if (there != none && (follower[at - first] < 0 || there < best)) {
          best = there;
          follower[at - first] = other;
        }
      }
      if (best != none) cost[at - first] = best + weight(node);
    }
    if (cost[0] == none) return {};
    Path path;
    for (int at = from; at >= 0; at = follower[place[at] - first]) path.push_back(at);
    return path;
  }

 private:
  const std::vector<Instruction> &code;
  std::vector<std::vector<int>> next;
  std::vector<int> order, place;          ///< reached instructions, each before what follows it; where each stands
  std::vector<std::pair<int, int>> back;  ///< branches to what encloses them: from, to

  void walk() {
    if (code.empty()) return;
    enum : char { Unseen, Open, Done };
    std::vector<char> state(code.size(), Unseen);
    std::vector<std::pair<int, size_t>> stack{{0, 0}};
    state[0] = Open;
    while (!stack.empty()) {
      auto &[at, edge] = stack.back();
      if (edge == next[at].size()) {
        state[at] = Done;
        order.push_back(at);
        stack.pop_back();
        continue;
      }
      const int other = next[at][edge++];
      if (state[other] == Open) back.push_back({at, other});
      else if (state[other] == Unseen) {
        state[other] = Open;
        stack.push_back({other, 0});
      }
    }
    std::reverse(order.begin(), order.end());
    for (size_t at = 0; at < order.size(); ++at) place[order[at]] = static_cast<int>(at);
  }

  void findLoops() {
    constexpr size_t most = 256;  // more loops than any kernel has
    std::vector<std::vector<int>> before(code.size());
    for (int at : order)
      for (int other : next[at]) before[other].push_back(at);
    std::stable_sort(back.begin(), back.end(), [](const auto &a, const auto &b) { return a.second < b.second; });
    for (const auto &[from, to] : back) {
      if (from == to) continue;  // the trap at the end of the code
      if (loops.empty() || loops.back().head != to) {
        if (loops.size() == most) break;
        loops.push_back({to, {}, std::vector<char>(code.size(), 0), 0, 0});
        loops.back().body[to] = 1;
      }
      Loop &loop = loops.back();
      loop.latches.push_back(from);
      std::vector<int> left{from};
      while (!left.empty()) {
        const int at = left.back();
        left.pop_back();
        if (loop.body[at]) continue;
        loop.body[at] = 1;
        for (int other : before[at]) left.push_back(other);
      }
    }
    for (Loop &loop : loops)
      for (size_t at = 0; at < code.size(); ++at)
        if (loop.body[at]) {
          ++loop.size;
          loop.tensor += isTensor(code[at]);
        }
  }
};

/// What a way is good for: the shortest one does the work, the longest one all that is not a slow path.
double weightOf(const Instruction &instruction, bool longest) {
  constexpr double call = 1e6, work = 1e3;
  if (instruction.is("CALL")) return call;
  if (longest) return -1;
  const bool works = isTensor(instruction) || instruction.shared || instruction.is("ST") || instruction.is("RED") ||
                     instruction.is("BAR") || instruction.is("LDGDEPBAR") || instruction.is("UTMALDG");
  return works ? 1 - work : 1;
}

bool contains(const Loop &outer, const Loop &inner) { return &outer != &inner && outer.body[inner.head]; }

/// In the innermost loops that copy and multiply nothing; not in those over programs, which have no loop around.
int bulkCopiesOf(const Flow &flow, const std::vector<Instruction> &all, bool programs) {
  std::vector<std::pair<const Loop *, int>> copying;
  for (const Loop &loop : flow.loops) {
    int copies = 0;
    // Of lanes with one address each another turn (a waterfall): a producer's have one.
    if (all[loop.latches.front()].is("BRA.U")) continue;
    if (programs &&
        std::none_of(flow.loops.begin(), flow.loops.end(), [&](const Loop &other) { return contains(other, loop); }))
      continue;
    for (size_t at = 0; at < all.size(); ++at) copies += loop.body[at] && all[at].is("UTMALDG");
    if (copies && !loop.tensor) copying.push_back({&loop, copies});
  }
  int sum = 0;
  for (const auto &[loop, copies] : copying)
    if (std::none_of(copying.begin(), copying.end(), [&](const auto &other) { return contains(*loop, *other.first); }))
      sum += copies;
  return sum;
}

}  // namespace

bool isTensor(const Instruction &instruction) {
  for (const char *prefix : {"HMMA", "HGMMA", "IMMA", "IGMMA", "QGMMA", "BMMA", "DMMA"})
    if (instruction.is(prefix)) return true;
  return false;
}

Paths findPaths(const Code &code, int otherTurns, bool programs) {
  const std::vector<Instruction> &all = code.instructions;
  Paths paths;
  if (all.empty()) return paths;
  const Flow flow(all);
  auto anywhere = [](int) { return true; };
  auto shortest = [&](int at) { return weightOf(all[at], false); };
  auto longest = [&](int at) { return weightOf(all[at], true); };
  auto atEnd = [&](int at) { return all[at].is("EXIT"); };
  auto turn = [&](const Loop &loop, const std::function<double(int)> &weight) {
    return flow.lightest(
        loop.head, [&](int at) { return std::count(loop.latches.begin(), loop.latches.end(), at) > 0; },
        [&](int at) { return loop.body[at] != 0; }, weight);
  };

  const Loop *hot = nullptr;
  for (const Loop &loop : flow.loops) {
    if (!loop.tensor) continue;
    const bool outer = std::any_of(flow.loops.begin(), flow.loops.end(),
                                   [&](const Loop &other) { return other.tensor && contains(loop, other); });
    if (outer) continue;
    ++paths.loops;
    if (!hot || loop.tensor > hot->tensor) hot = &loop;
  }
  paths.bulkCopies = bulkCopiesOf(flow, all, programs);
  if (hot) {
    paths.full = turn(*hot, shortest);
    paths.partial = turn(*hot, longest);
    int begin = 0;
    if (programs) {
      const Loop *outermost = nullptr;
      for (const Loop &loop : flow.loops)
        if (contains(loop, *hot) && (!outermost || loop.size > outermost->size)) outermost = &loop;
      if (outermost) {
        begin = outermost->head;
        paths.once = flow.lightest(0, [&](int at) { return at == begin; }, anywhere, shortest);
        if (!paths.once.empty()) paths.once.pop_back();
      }
    }
    paths.before = flow.lightest(begin, [&](int at) { return at == hot->head; }, anywhere, shortest);
    if (!paths.before.empty()) paths.before.pop_back();  // the loop's own
    for (size_t at = 0; at < all.size(); ++at) {
      if (!hot->body[at]) continue;
      for (int out : flow.followers(static_cast<int>(at)))
        if (!hot->body[out])
          if (Path way = flow.lightest(out, atEnd, anywhere, longest); way.size() > paths.after.size())
            paths.after = std::move(way);
    }
    paths.loop = !paths.full.empty();
  }
  if (!paths.loop) {
    paths.before = flow.lightest(0, atEnd, anywhere, longest);
    constexpr size_t most = 1 << 18;
    for (const Loop &loop : flow.loops) {
      const bool innermost =
          std::none_of(flow.loops.begin(), flow.loops.end(), [&](const Loop &other) { return contains(loop, other); });
      const auto head = std::find(paths.before.begin(), paths.before.end(), loop.head);
      const Path once = turn(loop, longest);
      if (!innermost || head == paths.before.end() || paths.before.size() + once.size() * otherTurns > most) continue;
      Path more;
      for (int count = 1; count < otherTurns; ++count) more.insert(more.end(), once.begin(), once.end());
      paths.before.insert(head, more.begin(), more.end());
    }
  }
  if (paths.partial.empty()) paths.partial = paths.full;
  return paths;
}

}  // namespace weft::timeline
