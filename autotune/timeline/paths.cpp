#include "autotune/timeline/paths.h"

#include <algorithm>
#include <limits>

namespace weft::timeline {
namespace {

struct Loop {
  int begin = 0, end = 0;  ///< the branch back is at `end`
  int tensor = 0;
  int size() const { return end - begin + 1; }
};

bool isBranch(const Instruction &instruction) { return instruction.is("BRA") || instruction.is("JMP"); }
bool isExit(const Instruction &instruction) { return instruction.is("EXIT") || instruction.is("RET"); }

std::vector<Loop> loopsOf(const std::vector<Instruction> &code) {
  std::vector<int> before(code.size() + 1);  // tensor instructions up to each
  for (size_t at = 0; at < code.size(); ++at) before[at + 1] = before[at] + isTensor(code[at]);
  std::vector<Loop> loops;
  for (int at = 0; at < static_cast<int>(code.size()); ++at)
    if (const int target = code[at].target; isBranch(code[at]) && target >= 0 && target < at)
      loops.push_back({target, at, before[at + 1] - before[target]});
  return loops;
}

/// What a way is good for: the shortest one does the work, the longest one all that is not a slow path.
double weight(const Instruction &instruction, bool longest) {
  constexpr double call = 1e6, work = 1e3;
  if (instruction.is("CALL")) return longest ? -call : call;
  if (longest) return 1;
  const bool works = isTensor(instruction) || instruction.shared || instruction.is("ST") || instruction.is("RED") ||
                     instruction.is("BAR") || instruction.is("LDGDEPBAR") || instruction.is("UTMALDG");
  return works ? 1 - work : 1;
}

/// The best way from `from` to `to` forwards; empty where there is none. `to` itself is part of it where it is inside
/// the code and `inclusive`.
Path best(const std::vector<Instruction> &code, int from, int to, bool longest, bool toExit) {
  const int count = static_cast<int>(code.size());
  const int end = toExit ? count - 1 : to;
  if (from < 0 || from > end || end >= count) return {};
  constexpr double none = std::numeric_limits<double>::infinity();
  std::vector<double> cost(end - from + 1, none);  // from each to the goal
  std::vector<int> next(end - from + 1, -1);
  for (int at = end; at >= from; --at) {
    const double own = weight(code[at], longest);
    double &mine = cost[at - from];
    if (toExit ? code[at].is("EXIT") : at == to) mine = longest ? -own : own;
    if (!toExit && at == to) continue;
    if (isExit(code[at]) && !code[at].guarded) continue;
    auto offer = [&](int target) {
      if (target <= at || target > end || cost[target - from] == none) return;
      const double total = cost[target - from] + (longest ? -own : own);
      // The end under a predicate is the other warps'.
      if (next[at - from] < 0 || total < mine) {
        mine = total;
        next[at - from] = target;
      }
    };
    if (isBranch(code[at])) {
      offer(code[at].target);
      if (code[at].guarded) offer(at + 1);
    } else {
      offer(at + 1);
    }
  }
  if (cost[0] == none) return {};
  Path path;
  for (int at = from; at >= 0; at = next[at - from]) path.push_back(at);
  return path;
}

/// Puts turns of the innermost loops into a path that passes their heads.
void repeat(Path &path, const std::vector<Instruction> &code, const std::vector<Loop> &loops, int turns) {
  constexpr size_t most = 1 << 18;
  for (const Loop &loop : loops) {
    const bool innermost = std::none_of(loops.begin(), loops.end(), [&](const Loop &other) {
      return other.size() < loop.size() && other.begin >= loop.begin && other.end <= loop.end;
    });
    const auto head = std::find(path.begin(), path.end(), loop.begin);
    const Path turn = best(code, loop.begin, loop.end, true, false);
    if (!innermost || head == path.end() || path.size() + turn.size() * turns > most) continue;
    Path more;
    for (int count = 1; count < turns; ++count) more.insert(more.end(), turn.begin(), turn.end());
    path.insert(head, more.begin(), more.end());
  }
}

}  // namespace

bool isTensor(const Instruction &instruction) {
  for (const char *prefix : {"HMMA", "HGMMA", "IMMA", "IGMMA", "QGMMA", "BMMA", "DMMA"})
    if (instruction.is(prefix)) return true;
  return false;
}

Paths findPaths(const Code &code, int otherTurns) {
  const std::vector<Instruction> &all = code.instructions;
  Paths paths;
  if (all.empty()) return paths;
  const std::vector<Loop> loops = loopsOf(all);
  const Loop *hot = nullptr;
  for (const Loop &loop : loops) {
    if (!loop.tensor) continue;
    // Innermost: no other that multiplies lies inside.
    const bool outer = std::any_of(loops.begin(), loops.end(), [&](const Loop &other) {
      return other.tensor && other.size() < loop.size() && other.begin >= loop.begin && other.end <= loop.end;
    });
    if (outer) continue;
    ++paths.loops;
    if (!hot || loop.tensor > hot->tensor) hot = &loop;
  }
  if (hot) {
    paths.full = best(all, hot->begin, hot->end, false, false);
    paths.partial = best(all, hot->begin, hot->end, true, false);
    paths.before = hot->begin > 0 ? best(all, 0, hot->begin, false, false) : Path{};
    if (!paths.before.empty()) paths.before.pop_back();  // the loop's own
    int out = hot->end + 1;
    if (!all[hot->end].guarded)
      for (int at = hot->begin; at < hot->end; ++at)
        if (isBranch(all[at]) && all[at].target > hot->end) out = all[at].target;
    paths.after = best(all, out, 0, true, true);
    paths.loop = !paths.full.empty();
  }
  if (!paths.loop) {
    paths.before = best(all, 0, 0, true, true);
    repeat(paths.before, all, loops, otherTurns);
  }
  if (paths.partial.empty()) paths.partial = paths.full;
  return paths;
}

}  // namespace weft::timeline
