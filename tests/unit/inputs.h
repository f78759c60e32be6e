// Random inputs for a variant, by the role its name says.
#pragma once

#include <cmath>
#include <random>

#include "compiler/compiler.h"
#include "compiler/reference.h"

namespace weft::testing {

struct Shape {
  int64_t B = 1, H = 2, G = 2, T = 64, S = 64, D = 32, E = 32;
};

inline std::map<std::string, reference::Array> randomInputs(const Variant &variant, const Shape &shape, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  auto uniform = [&](double low, double high) {
    return low + (high - low) * std::uniform_real_distribution<double>()(random);
  };
  std::map<std::string, int64_t> dims{{"B", shape.B}, {"H", shape.H}, {"G", shape.G},
                                      {"T", shape.T}, {"S", shape.S}, {"D", shape.D},
                                      {"E", shape.E}, {"R", 16},      {"N", shape.T + shape.S}};
  std::map<std::string, reference::Array> inputs;
  for (const InputInfo &input : variant.inputs()) {
    reference::Array array;
    int64_t size = 1;
    for (const std::string &dim : input.dims) {
      array.shape.push_back(dims.count(dim) ? dims[dim] : 8);
      size *= array.shape.back();
    }
    const std::string &name = input.name;
    double running = 0;
    for (int64_t at = 0; at < size; ++at) {
      double value = static_cast<float>(normal(random));
      if (name == "span") value = uniform(-20, 1.2 * static_cast<double>(shape.T));
      if (name == "period") value = uniform(2, 8);
      if (name == "ratio") value = uniform(-0.25, 0.25);
      if (name == "slope") value = uniform(0, 0.5);
      if (name == "keep") value = uniform(-0.1, 0.3);
      if (name == "window") value = static_cast<double>(1 + random() % static_cast<uint64_t>(shape.T));
      if (name == "first") value = static_cast<double>(random() % 4);
      if (name == "own" || name == "other") value = static_cast<double>(random() % 3);
      if (name == "phase" || name == "key_phase")
        value = std::fmod(inputs.at(name == "phase" ? "place" : "key_place").values[at],
                          inputs.at("period").values[at / array.shape.back()]);
      if (name == "place" || name == "key_place")
        value = static_cast<double>(random() % static_cast<uint64_t>(shape.T));
      if (name == "count") value = static_cast<double>(random() % static_cast<uint64_t>(shape.T + 1));
      if (name == "near") value = static_cast<double>(random() % 3);
      if (name == "stride") value = static_cast<double>(5 + random() % 40);
      if (name == "stripes" || name == "list")
        value = random() % 3 == 0 ? -1.0 : static_cast<double>(random() % static_cast<uint64_t>(shape.S));
      if (name == "tiles" || name == "stretches") value = static_cast<double>(1 + random() % 2);
      if (name == "theta") value = uniform(-0.2, 0.5);
      if (name == "share") value = uniform(0.2, 0.9);
      // Sorted by phase in small chunks, as it were: neighbours change places.
      if (input.dims.size() == 2 && (name == "place" || name == "key_place"))
        value = static_cast<double>((at % array.shape.back()) ^ 5);
      if (name == "prefix") value = static_cast<double>(random() % static_cast<uint64_t>(shape.S + 1));
      if (name == "doc" || name == "key_doc") value = running += random() % 20 == 0;
      if (input.isBool) value = random() % 4 == 0;
      array.values.push_back(input.isFloat ? static_cast<float>(value) : std::floor(value));
    }
    inputs[name] = std::move(array);
  }
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
