// Numbers at the edges of their types in masks, and masked pairs whose scores, weights and gates are no numbers: on the
// CPU and on the emulator, against the oracle, forward and backward.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>

#include "tests/unit/compare.h"
#include "tests/unit/inputs.h"

namespace weft::testing {
namespace {

const double most = std::numeric_limits<int32_t>::max(), least = std::numeric_limits<int32_t>::min();
const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();

using Inputs = std::map<std::string, reference::Array>;

/// The body after a head that declares more than it uses.
std::string variantWith(const std::string &body) {
  return "attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E], t: int [T,S], w: int [T], al: int [S], a: [S], x: "
         "[T,S], c: [H]) { " +
         body + " }";
}

/// `tiny`: inputs whose gradients are below what an f32 of the kernels holds.
void compare(const std::string &body, const std::function<void(Inputs &)> &change = {},
             const std::vector<std::string> &tiny = {}) {
  SCOPED_TRACE(body);
  auto variant = variantOf(variantWith(body));
  const Shape shape{1, 2, 2, 70, 70, 16, 16};
  auto inputs = randomInputs(*variant, shape, 3);
  for (const char *name : {"t", "w", "al"})
    for (size_t at = 0; at < inputs[name].values.size(); ++at)
      inputs[name].values[at] = static_cast<double>(at * 7 % 11) - 5;
  for (double &value : inputs["x"].values) value = std::round(4 * value) / 4;
  if (change) change(inputs);
  expectTheOracles(variant, inputs, randomCotangent(shape, 3), {.tiny = tiny});
}

TEST(OddInputs, intsOfAllSizesInMasks) {
  const std::string score = " score dot(q[i], k[j]) / sqrt(D)";
  for (const char *where :
       {"t[i, j] + 1 >= 4", "2 * t[i, j] <= 5", "t[i, j] - 1 <= 1", "i - t[i, j] >= j", "t[i, j] mod 3 == 0",
        "-t[i, j] >= -2", "al[clamp(t[i, j] + 1, 0, S - 1)] > 0", "floor(x[i, j]) mod 2 == 0", "abs(t[i, j]) < 4"})
    compare("where " + std::string(where) + score);
}

TEST(OddInputs, intsSaturate) {
  const std::string score = " score dot(q[i], k[j]) / sqrt(D)";
  // A sentinel keeps all keys of its row, and changes no other row.
  compare("where j + w[i] >= i" + score, [](Inputs &inputs) {
    inputs["w"].values[9] = most;
    inputs["w"].values[40] = least;
  });
  for (const char *where :
       {"t[i, j] + 1 > t[i, j] - 1 and t[i, j] < 3", "2 * t[i, j] > j", "-t[i, j] > j", "abs(t[i, j]) > 4",
        "t[i, j] mod w[i] >= 0", "t[i, j] * w[i] <= al[j]", "t[i, j] - al[j] < 2"})
    compare("where " + std::string(where) + score, [](Inputs &inputs) {
      for (size_t at = 0; at < inputs["t"].values.size(); at += 3) inputs["t"].values[at] = at % 2 ? most : least;
      for (size_t at = 0; at < 70; at += 5)
        inputs["w"].values[at] = inputs["al"].values[at] = at % 2 ? least : most - static_cast<double>(at);
    });
}

TEST(OddInputs, notANumberInAMaskDropsItsOwnPairsAlone) {
  const std::string score = " score dot(q[i], k[j]) / sqrt(D)";
  for (const char *where :
       {"a[j] > -1", "not (a[j] > -1)", "a[j] + c[h] < 0 or a[j] + c[h] > 0", "min(0.5, a[j]) > -1",
        "max(a[j], 0) >= 0 and i >= j", "x[i, j] * a[j] < 1", "floor(a[j]) == 0", "clamp(a[j], -1, 1) < 0.5",
        "abs(a[j]) - x[i, j] > 0", "(if a[j] < 0 then a[j] else 1.0) <= 1"})
    compare("where " + std::string(where) + score, [](Inputs &inputs) {
      for (double &value : inputs["a"].values) value = std::round(4 * value) / 4;
      for (double &value : inputs["c"].values) value = 0.25;
      inputs["a"].values[3] = inputs["a"].values[35] = nan;
      inputs["a"].values[7] = infinity;
      inputs["a"].values[50] = -infinity;
    });
}

TEST(OddInputs, aNumberOfAHeadThatIsNotANumberIsCountedOnAsOne) {
  const std::string score = " score dot(q[i], k[j]) / sqrt(D)";
  for (const char *where :
       {"floor(c[h] + 5) == 0", "0 == floor(5 + c[h]) and i >= j", "floor(triangle(c[h])) == 0", "ceil(2 - c[h]) <= 0",
        "round(c[h] * 0 + 3) == j mod 1", "floor((if c[h] < 9 then c[h] else 7.0) + 1) > 3",
        "floor(min(c[h] + 1, 4)) == 0", "floor(max(2, c[h])) == 2", "floor(clamp(3, c[h], 5)) >= 0",
        "clamp(i / 8, x[i, j], c[h]) <= 1", "clamp(i / 8, c[h], x[i, j]) >= 1", "clamp(x[i, j], 2, c[h]) > 1",
        "floor(exp(c[h]) + 3) == 0", "floor(c[h] + x[i, j]) == 0", "abs(c[h] + 2) - i * 0 >= 0 or i >= j",
        "not (c[h] + 5 > j)", "c[h] != c[h]", "not (c[h] + 5 <= 5 + c[h])"})
    for (double odd : {nan, infinity, -infinity})
      compare("where " + std::string(where) + score, [&](Inputs &inputs) { inputs["c"].values[1] = odd; });
}

TEST(OddInputs, maskedPairsPassNothingOn) {
  const std::string dot = "score dot(q[i], k[j]) / sqrt(D) ";
  for (const std::string &body : std::initializer_list<std::string>{
           "where i > j " + dot + "+ c[h] * log(i - j)", "where i >= j " + dot + "weight pow(i - j + 1, 0 - exp(c[h]))",
           "where i > j " + dot + "gate c[h] / (i - j)",
           "where i > j " + dot + "+ c[h] * log(i - j) weight sqrt(i - j) gate c[h] / (i - j)",
           "where i > j " + dot + "weight clamp((20 + 8 * c[h] - (i - j)) / 16, 0, 1) * pow(i - j, c[h]) sink c[h]",
           "where i > j " + dot + "+ c[h] * log(i - j) normalize sigmoid",
           "where i > j score log(i - j) * c[h] normalize none",
           "where i > j " + dot + "+ c[h] * log(i - j) gate c[h] / (i - j) normalize stick_breaking",
           "where a[j] == a[j] " + dot + "+ c[h] * a[j]",
           "where a[j] == a[j] " + dot + " weight exp(0.1 * a[j]) gate tanh(a[j] * c[h])"})
    compare(body, [](Inputs &inputs) {
      inputs["a"].values[3] = inputs["a"].values[35] = inputs["a"].values[69] = nan;
      for (double &value : inputs["c"].values) value = std::fabs(value);
    });
}

// A softmax does not know the size of its weights, only what they are to each other.
TEST(OddInputs, weightsOfAnySizeAreAsGoodAsOthers) {
  const std::string causal = "where i >= j score dot(q[i], k[j]) / sqrt(D) ";
  for (const char *body : {"weight a[j]", "weight a[j] * c[h]", "weight a[j] gate c[h]",
                           "weight if j mod 3 == 0 then a[j] else 0.0 sink c[h]"})
    for (double size : {1e-37, 1e-34, 1e-25, 1e-19, 1e25, 1e34, 1e36}) {
      SCOPED_TRACE(size);
      compare(
          causal + body,
          [&](Inputs &inputs) {
            for (double &value : inputs["a"].values) value = size * (0.25 + std::fabs(value));
            for (double &value : inputs["c"].values) value = 0.5 + std::fabs(value);
            if (std::string(body).find("sink") != std::string::npos)
              inputs["c"].values = {std::log(size), std::log(size) + 1};
          },
          size < 1 ? std::vector<std::string>{} : std::vector<std::string>{"a"});
    }
  for (const char *body : {"weight exp(a[j])", "weight exp(a[j]) * c[h]", "weight exp2(a[j] * 1.4)",
                           "weight if i > j + 2 then exp(a[j]) else 0.0"})
    for (double size : {-82, -60, 60, 82})
      compare(causal + body, [&](Inputs &inputs) {
        for (double &value : inputs["a"].values) value = size + std::clamp(value, -2.0, 2.0);
      });
  // Scores that make up for their weights.
  for (double size : {20.0, 30.0, 35.0})
    compare("score dot(q[i], k[j]) / sqrt(D) - a[j] weight exp(a[j])",
            [&](Inputs &inputs) {
              for (size_t at = 0; at < 70; ++at)
                inputs["a"].values[at] = size * (static_cast<double>(at * 13 % 70) / 35 - 1);
            },
            {"a"});
  // Keys of one tile after those of another.
  for (bool rising : {false, true})
    compare("score dot(q[i], k[j]) / sqrt(D) weight a[j]",
            [&](Inputs &inputs) {
              for (size_t at = 0; at < 70; ++at)
                inputs["a"].values[at] = (0.25 + std::fabs(inputs["a"].values[at])) *
                                         std::array{1e-36, 1.0, 1e36}[rising ? at / 32 : 2 - at / 32];
            },
            {"a"});
}

// On GPUs probabilities become operands in f16, which has few exponents.
TEST(OddInputs, weightsOfAnySizeInF16) {
  auto variant = variantOf(variantWith("where i >= j score dot(q[i], k[j]) / sqrt(D) weight a[j] sink c[h]"));
  const Shape shape{1, 2, 2, 70, 70, 16, 16};
  const auto cotangent = randomCotangent(shape, 3);
  for (const Device &device : {Device{}, Device{Device::Kind::PtxEmulator, 0}}) {
    CallOptions options;
    options.device = device;
    options.type = ElementType::F16;
    std::map<int, Outcome> outcomes;
    for (int exponent : {0, -12, -20, -90, 16, 24, 90}) {
      auto inputs = randomInputs(*variant, shape, 3);
      for (double &value : inputs["a"].values) value = std::ldexp(0.25 + std::fabs(value), exponent);
      for (double &value : inputs["c"].values) value = exponent * std::log(2.0);
      const Outcome &got = outcomes[exponent] = call(variant, inputs, cotangent, options), &usual = outcomes[0];
      const auto close = [](const auto &x, const auto &y) {
        return relativeError(x, std::vector<double>(y.begin(), y.end()));
      };
      EXPECT_LT(close(got.o, usual.o), 2e-3) << exponent;
      for (const char *name : {"q", "k", "v", "c"})
        EXPECT_LT(close(got.gradients.at(name), usual.gradients.at(name)), 4e-3) << name << " " << exponent;
    }
  }
}

// Of a kept pair it must show: here in the rows that look at key 40, and in no other.
TEST(OddInputs, notANumberInAWeightShows) {
  auto variant = variantOf(variantWith("where i >= j score dot(q[i], k[j]) weight sigmoid(a[j])"));
  const Shape shape{1, 2, 2, 70, 70, 16, 16};
  auto inputs = randomInputs(*variant, shape, 3);
  inputs["a"].values[40] = nan;
  for (const Device &device : {Device{}, Device{Device::Kind::PtxEmulator, 0}}) {
    CallOptions options;
    options.device = device;
    auto got = call(variant, inputs, {}, options);
    for (int64_t row = 0; row < 140; ++row)
      for (int e = 0; e < 16; ++e) ASSERT_EQ(std::isnan(got.o[row * 16 + e]), row % 70 >= 40) << row;
  }
}

}  // namespace
}  // namespace weft::testing
