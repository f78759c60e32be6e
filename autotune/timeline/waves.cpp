#include "autotune/timeline/waves.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <tuple>

namespace weft::timeline {
namespace {

/// One SM. Its blocks share it evenly, so a block is over when the SM's own clock, that runs at their speed, is at its
/// beginning plus its work.
struct Unit {
  double now = 0, own = 0;  ///< real and own time up to which it is simulated
  std::priority_queue<double, std::vector<double>, std::greater<>> ends;  ///< in own time
};

}  // namespace

double wavesCycles(const std::vector<double> &work, int units, const std::vector<double> &speeds) {
  if (work.empty() || units < 1 || speeds.empty()) return 0;
  const size_t room = speeds.size();
  std::vector<Unit> all(units);
  auto end = [&](const Unit &unit) {
    return unit.now + (unit.ends.top() - unit.own) / std::max(speeds[unit.ends.size() - 1], 1e-9);
  };
  // Of SMs with a block that ends at the same time, the one that has waited longest goes first.
  using Event = std::tuple<double, size_t, int>;
  size_t number = 0;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events;
  size_t next = 0;
  for (size_t round = 0; round < room; ++round)
    for (int unit = 0; unit < units && next < work.size(); ++unit) all[unit].ends.push(work[next++]);
  for (int unit = 0; unit < units; ++unit)
    if (!all[unit].ends.empty()) events.push({end(all[unit]), number++, unit});
  double last = 0;
  while (!events.empty()) {
    const auto [time, order, at] = events.top();
    events.pop();
    Unit &unit = all[at];
    last = unit.now = time;
    unit.own = unit.ends.top();
    unit.ends.pop();
    if (next < work.size()) unit.ends.push(unit.own + work[next++]);
    if (!unit.ends.empty()) events.push({end(unit), number++, at});
  }
  return last;
}

}  // namespace weft::timeline
