#include "models/dials.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <stdexcept>

#include <torch/utils.h>

#include "models/spelling.h"
#include "ops/variant_library.h"

namespace weft {

using torch::Tensor;

namespace {

constexpr int64_t floatSteps = 4096, widest = 16;

const InputInfo &inputOf(const MassMeasure &measure, const std::string &name) {
  const auto &inputs = findVariant(measure.selecting()->config.attention)->inputs();
  return *std::ranges::find(inputs, name, &InputInfo::name);
}

/// Positions on a scale, of each layer and each head or all.
using Positions = std::vector<std::vector<int64_t>>;

std::vector<std::vector<double>> valuesAt(const DialScale &scale, const Positions &positions) {
  std::vector<std::vector<double>> values;
  for (const std::vector<int64_t> &layer : positions) {
    values.emplace_back();
    for (const int64_t position : layer) values.back().push_back(scale.at(position));
  }
  return values;
}

/// Where a dial's heads are one, their mean.
std::vector<std::vector<double>> massesOf(const MassFigures &figures, bool byHead) {
  std::vector<std::vector<double>> masses;
  for (const HeadMass &head : figures.heads) {
    if (head.head == 0) masses.emplace_back();
    masses.back().push_back(head.mean);
  }
  if (!byHead)
    for (std::vector<double> &layer : masses) {
      double sum = 0;
      for (const double mass : layer) sum += mass;
      layer = {sum / static_cast<double>(layer.size())};
    }
  return masses;
}

double meanPairs(const MassFigures &figures) {
  double sum = 0;
  for (const HeadMass &head : figures.heads) sum += head.pairs;
  return sum / static_cast<double>(figures.heads.size());
}

/// A finite number that is all of `text`.
std::optional<double> numberIn(const std::string &text) {
  double value = 0;
  const char *end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && stop == end && std::isfinite(value) ? std::optional(value) : std::nullopt;
}

}  // namespace

DialChoice chosenDial(const MassMeasure &measure, const std::string &given) {
  const std::string variant = measure.selecting()->config.attention;
  std::vector<std::string> names;
  for (const InputInfo &input : findVariant(variant)->inputs())
    if (measure.texts().selecting.count(input.name) > 0 && !input.isBool &&
        (input.dims.empty() || input.dims == std::vector<std::string>{"H"}))
      names.push_back(input.name);
  if (names.empty())
    throw std::invalid_argument("--target: variant '" + variant +
                                "' has no dial: no number, and none of each head, that what it keeps hangs on");
  const size_t equals = given.find('=');
  DialChoice choice{given.substr(0, equals), {}};
  if (choice.name.empty() && names.size() == 1) choice.name = names[0];
  if (choice.name.empty())
    throw std::invalid_argument("expected --dial " + listed(names, "or") + ", for variant '" + variant +
                                "' has several");
  if (std::ranges::count(names, choice.name) == 0) {
    const std::string meant = nearestName(choice.name, names);
    throw std::invalid_argument("expected --dial " + listed(names, "or") + ", got '" + choice.name + "'" +
                                (meant.empty() || names.size() == 1 ? "" : "; did you mean '" + meant + "'?"));
  }
  if (equals == std::string::npos) return choice;
  const std::string range = given.substr(equals + 1);
  const size_t points = range.find("..");
  if (points != std::string::npos) {
    const auto low = numberIn(range.substr(0, points)), high = numberIn(range.substr(points + 2));
    if (low && high && *low < *high) {
      choice.range = Bounds{*low, *high};
      return choice;
    }
  }
  throw std::invalid_argument("expected --dial " + choice.name +
                              "=LOW..HIGH, two numbers and the lower one first, got '" + given + "'");
}

/// From the lower end of the range on, whichever end keeps less.
static DialScale scaleOf(const MassMeasure &measure, const DialChoice &dial) {
  const InputInfo &input = inputOf(measure, dial.name);
  Bounds range = measure.selecting()->blocks[0]->attention->made->reachable(dial.name);
  if (dial.range) {
    if (input.hasGradient && (dial.range->low < range.low || dial.range->high > range.high))
      throw std::invalid_argument("expected --dial " + dial.name + " between " + shortNumber(range.low) + " and " +
                                  shortNumber(range.high) + ", which a model can learn, got " +
                                  shortNumber(dial.range->low) + ".." + shortNumber(dial.range->high));
    range = *dial.range;
  }
  if (!std::isfinite(range.low) || !std::isfinite(range.high))
    throw std::invalid_argument("expected --dial " + dial.name + "=LOW..HIGH: its declaration names no range");
  DialScale scale{dial.name, input.isInt, !input.dims.empty(), range.low, (range.high - range.low) / floatSteps,
                  floatSteps};
  if (!input.isInt) return scale;
  scale.tight = std::ceil(range.low);
  scale.step = 1;
  scale.steps = std::max<int64_t>(0, static_cast<int64_t>(std::floor(range.high) - scale.tight));
  return scale;
}

SolvedDial solveDial(MassMeasure &measure, const DialChoice &dial, double target) {
  const Gpt &model = measure.selecting();
  const InputInfo &input = inputOf(measure, dial.name);
  SolvedDial solved;
  DialScale &scale = solved.scale;
  scale = scaleOf(measure, dial);
  const auto layers = model->blocks.size();
  const size_t units = scale.byHead ? static_cast<size_t>(model->config.heads) : 1;
  int passes = 0;
  auto look = [&](const Positions &positions, bool wholly) {
    const MassFigures figures = measure.measure(toValues(scale, valuesAt(scale, positions)), wholly,
                                                scale.name + ", pass " + std::to_string(++passes) + ": ");
    solved.complete &= figures.complete;
    return figures;
  };
  auto everywhere = [&](int64_t position) { return Positions(layers, std::vector<int64_t>(units, position)); };
  // The end that keeps less comes first.
  const MassFigures low = look(everywhere(0), true);
  if (!solved.complete) return solved;
  MassFigures loosest = look(everywhere(scale.steps), true);
  if (!solved.complete) return solved;
  const double atLow = meanPairs(low), atHigh = meanPairs(loosest);
  if (atLow == atHigh)
    throw std::invalid_argument("expected a dial that changes what is kept, got " + dial.name + ": from " +
                                shortNumber(scale.at(0)) + " to " + shortNumber(scale.at(scale.steps)) + " variant '" +
                                model->config.attention + "' keeps the same share of the pairs");
  if (atLow > atHigh) {
    scale.tight = scale.at(scale.steps);
    scale.step = -scale.step;
    loosest = low;
  }
  auto isMet = [&](double mass) { return mass >= target; };
  auto allMet = [&](const std::vector<std::vector<double>> &masses) {
    return std::ranges::all_of(masses, [&](const auto &layer) { return std::ranges::all_of(layer, isMet); });
  };
  std::vector<std::vector<double>> masses = massesOf(loosest, scale.byHead);
  const bool widens = !input.isInt && !input.hasGradient && !dial.range;
  for (int64_t times = 2; widens && times <= widest && !allMet(masses); times *= 2) {
    scale.steps = times * floatSteps;
    masses = massesOf(look(everywhere(scale.steps), false), scale.byHead);
    if (!solved.complete) return solved;
  }
  Positions from = everywhere(0), to = everywhere(scale.steps);
  for (size_t layer = 0; layer < layers; ++layer) {
    solved.met.emplace_back();
    for (size_t unit = 0; unit < units; ++unit) {
      solved.met[layer].push_back(isMet(masses[layer][unit]));
      if (!solved.met[layer][unit]) from[layer][unit] = to[layer][unit];
    }
  }
  // The least position that meets the target lies from `from` to `to`; none before `from` does.
  while (from != to) {
    Positions middle = from;
    for (size_t layer = 0; layer < layers; ++layer)
      for (size_t unit = 0; unit < units; ++unit) middle[layer][unit] = (from[layer][unit] + to[layer][unit]) / 2;
    masses = massesOf(look(middle, false), scale.byHead);
    if (!solved.complete) return solved;
    for (size_t layer = 0; layer < layers; ++layer)
      for (size_t unit = 0; unit < units; ++unit) {
        int64_t &first = from[layer][unit], &last = to[layer][unit];
        if (first == last) continue;
        if (isMet(masses[layer][unit])) last = middle[layer][unit];
        else first = middle[layer][unit] + 1;
      }
  }
  solved.values = valuesAt(scale, to);
  return solved;
}

DialValues toValues(const DialScale &scale, const std::vector<std::vector<double>> &values) {
  DialValues dial{scale.name, {}};
  for (const std::vector<double> &layer : values) {
    const Tensor all = torch::tensor(layer, torch::kDouble);
    dial.layers.push_back((scale.byHead ? all : all[0]).to(scale.isInt ? torch::kInt32 : torch::kFloat));
  }
  return dial;
}

}  // namespace weft
