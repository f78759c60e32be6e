#include "autotune/timeline/reorder.h"

#include <algorithm>
#include <queue>
#include <tuple>

namespace weft::timeline {
namespace {

/// Steps `begin` up to `end`, appended to `result`.
void reorderPart(const std::vector<Step> &steps, size_t begin, size_t end, int registers, std::vector<Step> &result) {
  const size_t count = end - begin;
  std::vector<std::vector<std::pair<int, float>>> after(count);  // who waits for each, and how long
  std::vector<int> missing(count);
  std::vector<int> writer(registers, -1);
  std::vector<std::vector<int>> readers(registers);
  auto depend = [&](int on, size_t at, float latency) {
    if (on < 0 || on == static_cast<int>(at)) return;
    after[on].push_back({static_cast<int>(at), latency});
    ++missing[at];
  };
  for (size_t at = 0; at < count; ++at) {
    const Step &step = steps[begin + at];
    for (int number : step.reads) {
      depend(writer[number], at, writer[number] < 0 ? 0 : steps[begin + writer[number]].latency);
      readers[number].push_back(static_cast<int>(at));
    }
    for (int number : step.writes) {
      for (int reader : readers[number]) depend(reader, at, 1);
      depend(writer[number], at, 1);
      readers[number].clear();
      writer[number] = static_cast<int>(at);
    }
  }
  std::vector<float> height(count);  // latency from each to the end
  for (size_t at = count; at-- > 0;)
    for (const auto &[other, latency] : after[at]) height[at] = std::max(height[at], height[other] + latency);
  std::vector<float> ready(count);
  using Entry = std::tuple<float, int>;  // of equal height the one written first
  std::priority_queue<Entry> now;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> later;
  for (size_t at = 0; at < count; ++at)
    if (!missing[at]) now.push({height[at], -static_cast<int>(at)});
  float time = 0;
  while (!now.empty() || !later.empty()) {
    if (now.empty()) time = std::max(time, std::get<0>(later.top()));
    while (!later.empty() && std::get<0>(later.top()) <= time) {
      const int at = std::get<1>(later.top());
      later.pop();
      now.push({height[at], -at});
    }
    const int at = -std::get<1>(now.top());
    now.pop();
    result.push_back(steps[begin + at]);
    time += std::max(1.0f, steps[begin + at].cycles / 2);
    for (const auto &[other, latency] : after[at]) {
      ready[other] = std::max(ready[other], time + latency);
      if (--missing[other] == 0) later.push({ready[other], other});
    }
  }
}

}  // namespace

std::vector<Step> reorder(const std::vector<Step> &steps, int registers) {
  std::vector<Step> result;
  result.reserve(steps.size());
  size_t begin = 0;
  for (size_t at = 0; at <= steps.size(); ++at) {
    const bool fence =
        at == steps.size() || (steps[at].kind != Step::Kind::Plain && steps[at].kind != Step::Kind::Group);
    if (!fence) continue;
    reorderPart(steps, begin, at, registers, result);
    if (at < steps.size()) result.push_back(steps[at]);
    begin = at + 1;
  }
  return result;
}

}  // namespace weft::timeline
