#include "compiler/input_range.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "compiler/description.h"
#include "compiler/language/ast.h"

namespace weft {

double Bound::at(const std::map<std::string, int64_t> &sizes) const {
  if (dim.empty()) return offset;
  const auto found = sizes.find(dim);
  return static_cast<double>(found == sizes.end() ? 1 : found->second) / divisor + offset;
}

Bounds InputRange::bounds(const std::map<std::string, int64_t> &sizes) const {
  constexpr double endless = std::numeric_limits<double>::infinity();
  const double least = low ? low->at(sizes) : -endless;
  return {least, std::max(least, high ? high->at(sizes) : endless)};
}

std::optional<Bounds> InputRange::typical(const std::map<std::string, int64_t> &sizes) const {
  const Bounds all = bounds(sizes);
  if (typicalLow) {
    auto inside = [&](double value) { return std::clamp(value, all.low, all.high); };
    const double least = inside(typicalLow->at(sizes));
    return Bounds{least, std::max(least, inside(typicalHigh->at(sizes)))};
  }
  if (low && high) return all;
  if (low) return Bounds{all.low, all.low + 1};
  if (high) return Bounds{all.high - 1, all.high};
  return std::nullopt;
}

std::string print(const Bound &bound) {
  if (bound.dim.empty()) return ast::number(bound.offset, false);
  std::string text = bound.dim;
  if (bound.divisor != 1) text += " / " + ast::number(bound.divisor, false);
  if (bound.offset != 0) text += (bound.offset < 0 ? " - " : " + ") + ast::number(std::fabs(bound.offset), false);
  return text;
}

std::string print(const InputRange &range) {
  std::string text;
  auto add = [&](const std::string &part) { text += (text.empty() ? "" : " ") + part; };
  if (range.low || range.high)
    add("in " + (range.low ? print(*range.low) + " " : "") + ".." + (range.high ? " " + print(*range.high) : ""));
  if (range.typicalLow) {
    add("typical " + print(*range.typicalLow));
    if (range.typicalHigh != range.typicalLow) add(".. " + print(*range.typicalHigh));
  }
  if (range.rising) add("rising");
  return text;
}

}  // namespace weft
