// A call plan for people.
#include <algorithm>
#include <array>

#include "compiler/call_plan.h"

namespace weft {
namespace {

const char *name(CallPlan::Owner owner) {
  switch (owner) {
    case CallPlan::Owner::Input: return "input";
    case CallPlan::Owner::Output: return "output";
    case CallPlan::Owner::Kept: return "kept";
    case CallPlan::Owner::Temporary: return "temporary";
    case CallPlan::Owner::Zeros: return "zeros";
    case CallPlan::Owner::Workspace: return "workspace";
  }
  return "?";
}

/// Columns as wide as their widest entry, two spaces apart.
template <size_t columns>
std::string table(const std::vector<std::array<std::string, columns>> &rows) {
  std::array<size_t, columns> widths{};
  for (const auto &row : rows)
    for (size_t at = 0; at < columns; ++at) widths[at] = std::max(widths[at], row[at].size());
  std::string text;
  for (const auto &row : rows) {
    std::string line = " ";
    for (size_t at = 0; at < columns; ++at) line += ' ' + row[at] + std::string(widths[at] - row[at].size() + 1, ' ');
    text += line.substr(0, line.find_last_not_of(' ') + 1) + '\n';
  }
  return text;
}

std::string shapeText(const CallPlan::Buffer &buffer, const CallPlan &plan) {
  std::string text;
  for (const Extent &extent : buffer.shape) text += (text.empty() ? "[" : ", ") + print(extent, plan);
  return text.empty() ? "[]" : text + "]";
}

std::string names(const std::vector<int> &dims, const CallPlan &plan, const char *between) {
  std::string text;
  for (const int dim : dims) text += (text.empty() ? "" : between) + plan.dims[dim].name;
  return text;
}

std::string buffersText(const CallPlan &plan) {
  std::vector<std::array<std::string, 4>> rows;
  for (const CallPlan::Buffer &buffer : plan.buffers) {
    const bool zeroed = buffer.zeroed && buffer.owner != CallPlan::Owner::Zeros;
    rows.push_back({buffer.name, name(buffer.type), shapeText(buffer, plan),
                    name(buffer.owner) + std::string(zeroed ? ", zeroed" : "")});
  }
  return "buffers\n" + table(rows);
}

std::string stepsText(const CallPlan &plan) {
  std::string text = "steps";
  if (!plan.needsAll.empty()) text += ", where " + names(plan.needsAll, plan, ", ") + " > 0";
  if (!plan.needsAny.empty()) text += " and " + names(plan.needsAny, plan, " + ") + " > 0";
  std::vector<std::array<std::string, 3>> rows;
  for (const CallPlan::Step &step : plan.steps)
    rows.push_back({step.kernel, print(step.programs, plan) + " programs",
                    step.workspace < 0 ? "" : "each a row of " + plan.buffers[step.workspace].name});
  return text + '\n' + table(rows);
}

std::string gradientsText(const CallPlan &plan) {
  std::vector<std::array<std::string, 2>> rows;
  for (const CallPlan::Gradient &gradient : plan.gradients) {
    const CallPlan::Buffer &buffer = plan.buffers[gradient.buffer];
    std::string sums;
    for (size_t at = 0; at < gradient.axes.size(); ++at) {
      if (gradient.axes[at] == CallPlan::Gradient::Axis::Kept) continue;
      sums += (sums.empty() ? "summed over " : ", ") + print(buffer.shape[at], plan);
      if (gradient.axes[at] == CallPlan::Gradient::Axis::Grouped) sums += " to " + plan.dims[gradient.groups].name;
    }
    std::string text = "= " + buffer.name + (sums.empty() ? "" : " ") + sums;
    if (gradient.meeting) text += ", added up atomically on a GPU";
    rows.push_back({plan.buffers[gradient.input].name, std::move(text)});
  }
  return rows.empty() ? "" : "gradients\n" + table(rows);
}

}  // namespace

std::string print(const Extent &extent, const CallPlan &plan) {
  std::string text;
  if (extent.scale != 1 || extent.factors.empty()) text = std::to_string(extent.scale);
  for (const Extent::Factor &factor : extent.factors) {
    const std::string dim = plan.dims[factor.dim].name + (factor.by < 0 ? "" : " / " + plan.dims[factor.by].name),
                      step = std::to_string(factor.step);
    text += text.empty() ? "" : " ";
    text += factor.last        ? "last(" + dim + ", " + step + ")"
            : factor.step == 1 ? dim
                               : "tiles(" + dim + ", " + step + ")";
  }
  return text;
}

std::string print(const CallPlan &plan) {
  std::string text;
  std::vector<std::array<std::string, 2>> derived;
  for (const CallPlan::Dim &dim : plan.dims)
    if (dim.is) derived.push_back({dim.name, "= " + print(*dim.is, plan)});
  if (!derived.empty()) text += "dims\n" + table(derived);
  return text + buffersText(plan) + stepsText(plan) + gradientsText(plan);
}

}  // namespace weft
