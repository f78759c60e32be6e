// Random inputs for a variant, by what their declarations say of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <random>

#include "compiler/compiler.h"
#include "compiler/reference.h"

namespace weft::testing {

struct Shape {
  int64_t B = 1, H = 2, G = 2, T = 64, S = 64, D = 32, E = 32;
};

/// Tokens of span_periodic_sorted in small chunks, as it were: neighbours change places, phases follow from them.
inline void sortByPhase(std::map<std::string, reference::Array> &inputs) {
  for (const std::string of : {"", "key_"}) {
    reference::Array &place = inputs.at(of + "place"), &phase = inputs.at(of + "phase");
    for (size_t at = 0; at < place.values.size(); ++at) {
      place.values[at] = static_cast<double>((at % place.shape.back()) ^ 5);
      phase.values[at] =
          static_cast<float>(std::fmod(place.values[at], inputs.at("period").values[at / place.shape.back()]));
    }
  }
}

/// Draws values of an input: normal ones where its declaration says nothing of them, else as often a typical one as one
/// of the range. Of floats whose range hangs on sizes one of eight lies beyond it, by a tenth at most.
class Draw {
 public:
  Draw(const InputInfo &input, const std::map<std::string, int64_t> &sizes, std::mt19937_64 &random,
       std::normal_distribution<double> &normal)
      : input(input), random(random), normal(normal), typical(input.values.typical(sizes)) {
    if (!typical) return;
    all = input.values.bounds(sizes);
    ofSizes = input.values.high && !input.values.high->dim.empty();
    if (!std::isfinite(all.low) || !std::isfinite(all.high)) all = *typical;
  }

  double operator()() {
    const double value = static_cast<float>(normal(random));
    if (input.isBool) return random() % 4 == 0;
    if (!typical) return input.isInt ? std::floor(value) : value;
    const Bounds &from = random() % 2 ? *typical : all;
    if (input.isInt) return std::floor(std::min(uniform(from.low, from.high + 1), from.high));
    const double width = from.high - from.low, beyond = ofSizes && random() % 8 == 0 ? width / 10 : 0;
    return uniform(from.low - beyond, from.high + beyond);
  }

 private:
  const InputInfo &input;
  std::mt19937_64 &random;
  std::normal_distribution<double> &normal;
  std::optional<Bounds> typical;
  Bounds all{0, 0};
  bool ofSizes = false;

  double uniform(double low, double high) {
    return low + (high - low) * std::uniform_real_distribution<double>()(random);
  }
};

/// What is declared to rise does so for odd seeds; no result may hang on it.
inline std::map<std::string, reference::Array> randomInputs(const Variant &variant, const Shape &shape, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::map<std::string, int64_t> dims{{"B", shape.B}, {"H", shape.H}, {"G", shape.G},
                                      {"T", shape.T}, {"S", shape.S}, {"D", shape.D},
                                      {"E", shape.E}, {"R", 16},      {"N", shape.T + shape.S}};
  // Groups that each lie in one of G: some of both where there is room.
  dims["G2"] = shape.G > 0 && shape.H % (2 * shape.G) == 0 ? 2 * shape.G : shape.H;
  dims["G3"] = shape.G > 0 && shape.H % (4 * shape.G) == 0 ? 4 * shape.G : shape.G;
  std::map<std::string, reference::Array> inputs;
  for (size_t position = 0; position < variant.inputs().size(); ++position) {
    const InputInfo &input = variant.inputs()[position];
    reference::Array array;
    int64_t size = 1;
    for (const std::string &dim : input.dims) {
      array.shape.push_back(dims.count(dim) ? dims[dim] : 8);
      size *= array.shape.back();
    }
    Draw draw(input, dims, random, normal);
    const bool listed = static_cast<int>(position) == variant.keyList().input;
    for (int64_t at = 0; at < size; ++at) {
      const double value = listed && random() % 3 == 0 ? -1 : draw();
      array.values.push_back(input.isFloat ? static_cast<float>(value) : value);
    }
    if (input.values.rising && seed % 2 == 1)
      for (auto row = array.values.begin(); row < array.values.end(); row += array.shape.back())
        std::sort(row, row + array.shape.back());
    inputs[input.name] = std::move(array);
  }
  if (variant.name() == "span_periodic_sorted") sortByPhase(inputs);
  return inputs;
}

inline std::vector<double> randomCotangent(const Shape &shape, uint64_t seed) {
  std::mt19937_64 random(seed + 99);
  std::normal_distribution<double> normal;
  std::vector<double> values(shape.B * shape.H * shape.T * shape.E);
  for (double &value : values) value = static_cast<float>(normal(random));
  return values;
}

/// Largest difference over the largest magnitude of the reference (at least `floor`: inputs and
/// cotangents are normal numbers, and a gradient that cancels to 0 is a difference of such). An infinity
/// equals itself; a NaN equals nothing.
template <class A, class B>
double relativeError(const A &got, const B &want, double floor = 1) {
  if (got.size() != want.size()) return INFINITY;
  double difference = 0, scale = floor;
  for (size_t at = 0; at < want.size(); ++at) {
    const double g = got[at], w = want[at];
    if (g == w) continue;
    if (!std::isfinite(g) || !std::isfinite(w)) return INFINITY;
    difference = std::max(difference, std::fabs(g - w));
    scale = std::max(scale, std::fabs(w));
  }
  for (double w : want)
    if (std::isfinite(w)) scale = std::max(scale, std::fabs(w));
  return difference / scale;
}

}  // namespace weft::testing
