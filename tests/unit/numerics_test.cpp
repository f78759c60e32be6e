// Every library variant, forward and each gradient, f32, against the double-precision oracle.
#include <gtest/gtest.h>

#include <array>
#include <random>
#include <set>

#include "compiler/normalizers/facts.h"
#include "tests/unit/compare.h"
#include "tests/unit/inputs.h"

namespace weft::testing {
namespace {

// A wave's period and ratio move every pair by up to d / p^2 times the period, a slope by d: their
// gradients are sums of terms several times larger than the sum.
double toleranceOf(const std::string &input) {
  return input == "period" || input == "ratio" || input == "slope" ? 4 * tolerance : tolerance;
}

// Tiles are square and not: what takes queries for keys shows where there are more of one.
const struct {
  const char *name;
  Shape shape;
  int tileQ, tileK;
} shapes[] = {
    {"aligned", {1, 2, 2, 128, 128, 32, 32}, 64, 64}, {"odd", {2, 2, 2, 77, 77, 16, 48}, 32, 64},
    {"moreKeys", {1, 2, 1, 33, 130, 32, 32}, 64, 16}, {"moreQueries", {1, 2, 2, 130, 33, 20, 24}, 64, 64},
    {"grouped", {2, 4, 2, 70, 70, 64, 16}, 16, 32},   {"oneKey", {1, 2, 2, 5, 1, 16, 16}, 16, 64},
    {"single", {1, 1, 1, 65, 65, 80, 80}, 64, 64},
};

struct Case {
  std::string variant;
  size_t shape;
  bool twoPass;
};
void PrintTo(const Case &param, std::ostream *stream) { *stream << param.variant; }

class Numerics : public ::testing::TestWithParam<Case> {};

TEST_P(Numerics, matchesReference) {
  const Case &param = GetParam();
  const auto &own = shapes[param.shape];
  const Shape &shape = own.shape;
  auto variant = variantOf(param.variant);
  auto inputs = randomInputs(*variant, shape, 17 + param.shape);
  auto cotangent = randomCotangent(shape, 5);
  if (param.twoPass && !variant->hasTwoPassBackward(shape.G != shape.H)) {
    const std::set<std::string> fusedOnly{"relative_bias", "content_weight", "content_sparse", "stick_breaking",
                                          "anchor",        "stripes",        "gathered",       "indexed"};
    EXPECT_TRUE(fusedOnly.count(param.variant));
    return;
  }
  auto want = reference::evaluate(variant->tree(), inputs, cotangent);
  const BackwardForm form = param.twoPass ? BackwardForm::TwoPass : BackwardForm::Fused;
  auto got = call(variant, inputs, cotangent, {own.tileQ, own.tileK, form, 2});
  EXPECT_FALSE(got.outside);
  // Of an unsorted row's first keys a wave can leave one with a tiny weight: a difference of numbers near 1.
  const double more = param.variant == "span_periodic_sorted" ? 3 : 1;
  EXPECT_LT(relativeError(got.o, want.o.values), more * tolerance);
  if (variant->hasLogSumExp()) EXPECT_LT(relativeError(got.lse, want.lse.values, 1), more * tolerance);
  for (auto &[name, gradient] : want.gradients)
    EXPECT_LT(relativeError(got.gradients.at(name), gradient.values), more * toleranceOf(name))
        << "gradient of " << name;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::string &variant : libraryVariants())
    for (size_t shape = 0; shape < std::size(shapes); ++shape)
      for (bool twoPass : {false, true}) {
        // One pass of those that have two: of the shapes that differ most.
        const bool both = variantOf(variant)->hasTwoPassBackward(shapes[shape].shape.G != shapes[shape].shape.H);
        if (twoPass || !both || shape == 1 || shape == 2 || shape == 4) all.push_back({variant, shape, twoPass});
      }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Library, Numerics, ::testing::ValuesIn(cases()), [](const auto &info) {
  return info.param.variant + "_" + shapes[info.param.shape].name + (info.param.twoPass ? "_twoPass" : "_fused");
});

TEST(Normalizers, matchReference) {
  for (const NormalizerFacts *facts : allNormalizers()) {
    const std::string weight = facts->weight ? "weight clamp(c[h] * 2, 0.1, 3) " : "";
    auto variant = variantOf(
        "attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E], c: [H]) { where i >= j "
        "score dot(q[i], k[j]) / sqrt(D) * (1 + c[h]) " +
        weight + "gate tanh(c[h] * (i - j)) normalize " + facts->name + " }");
    const Shape shape{1, 2, 2, 70, 70, 32, 32};
    auto inputs = randomInputs(*variant, shape, 3);
    auto cotangent = randomCotangent(shape, 3);
    auto want = reference::evaluate(variant->tree(), inputs, cotangent);
    for (const Device &device : {Device{}, Device{Device::Kind::PtxEmulator, 0}})
      for (BackwardForm form :
           {BackwardForm::Fused, BackwardForm::TwoPass, BackwardForm::FusedQueries, BackwardForm::FusedKeys}) {
        if (form >= BackwardForm::FusedQueries && device.kind == Device::Kind::Cpu) continue;
        CallOptions options;
        options.device = device;
        options.form = form;
        auto got = call(variant, inputs, cotangent, options);
        EXPECT_LT(relativeError(got.o, want.o.values), tolerance) << facts->name;
        if (facts->logSumExp) EXPECT_LT(relativeError(got.lse, want.lse.values, 1), tolerance) << facts->name;
        for (auto &[name, gradient] : want.gradients)
          EXPECT_LT(relativeError(got.gradients.at(name), gradient.values), tolerance) << facts->name << " " << name;
      }
  }
}

TEST(Normalizers, softmax1IsASoftmaxWithASinkOfZero) {
  const std::string head =
      "attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E], c: [H]) { where i > j score dot(q[i], k[j]) ";
  for (const std::string weight : {"", "weight exp(c[h] * j / 10) "}) {
    auto own = variantOf(head + weight + "normalize softmax1 }"), sink = variantOf(head + weight + "sink 0 }");
    const Shape shape{1, 2, 2, 70, 70, 32, 32};
    auto inputs = randomInputs(*own, shape, 3);
    auto cotangent = randomCotangent(shape, 3);
    auto got = call(own, inputs, cotangent), want = call(sink, inputs, cotangent);
    EXPECT_EQ(got.o, want.o);
    EXPECT_EQ(got.lse, want.lse);
    EXPECT_EQ(got.lse[0], 0.0f);
    EXPECT_EQ(got.gradients, want.gradients);
  }
}

// Rows from those that one key takes whole to those that thousands share.
TEST(Normalizers, entmax15FindsItsThreshold) {
  for (const char *score : {"0.0", "dot(q[i], k[j]) * 1e-3", "dot(q[i], k[j]) / 20", "dot(q[i], k[j]) / 4",
                            "dot(q[i], k[j]) * 4 + 1e4", "-2 * j / 3000", "if j == 7 then 0 else -1.99"}) {
    auto variant = variantOf(std::string("attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E]) { score ") + score +
                             " + 0 * dot(q[i], k[j]) normalize entmax15 }");
    const Shape shape{1, 1, 1, 20, 3000, 16, 16};
    auto inputs = randomInputs(*variant, shape, 3);
    auto cotangent = randomCotangent(shape, 3);
    auto want = reference::evaluate(variant->tree(), inputs, cotangent);
    auto got = call(variant, inputs, cotangent);
    // Scores near 1e4 are known to 1e-3.
    const double own = std::string(score).find("1e4") == std::string::npos ? 4 * tolerance : 1e-2;
    EXPECT_LT(relativeError(got.o, want.o.values), own) << score;
    for (auto &[name, gradient] : want.gradients)
      EXPECT_LT(relativeError(got.gradients.at(name), gradient.values, 1e-2), own) << score << " " << name;
  }
}

// More keys in the same normaliser, with everything that a set of keys can say.
TEST(Also, matchesReference) {
  const std::string head =
      "attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E], sk: [B,G,M,D], sv: [B,H,M,E], p: [B,H,T,R], pk: "
      "[B,H,P,R], "
      "pv: [B,G,P,E], c: [H], y: [H,M], r: [B,H,T], list: int [H,N], tiles: int [H] in 1 .. 2) { let near = i / 8 ";
  struct {
    const char *name;
    std::string body;
  } bodies[] = {
      {"window",
       "where i >= j and i - j < 20 score dot(q[i], k[j]) / sqrt(D) also sv { where 8 * (j + 1) <= i score dot(q[i], "
       "sk[j]) / sqrt(D) + y[h, j] }"},
      {"weighted",
       "where i >= j score dot(q[i], k[j]) / sqrt(D) weight sigmoid(c[h] * (i - j)) gate r[i] sink c[h] "
       "also sv { let d = near - j score dot(q[i], sk[j]) / sqrt(D) - 0.1 * abs(d) weight clamp(d + c[h], 0, 1) gate "
       "tanh(y[h, j] + r[i]) }"},
      {"three",
       "score dot(q[i], k[j]) / sqrt(D) where i >= j also sv { score dot(q[i], sk[j]) / 5 + c[h] } also pv { where j < "
       "near score dot(p[i], pk[j]) / 4 }"},
      {"sigmoid",
       "score dot(q[i], k[j]) / sqrt(D) where i >= j also sv { score dot(q[i], sk[j]) / 5 weight sigmoid(y[h, j]) } "
       "normalize sigmoid"},
      {"plain",
       "score dot(q[i], k[j]) / sqrt(D) where i >= j also sv { score dot(q[i], sk[j]) * y[h, j] } normalize none"},
      {"entmax15",
       "score dot(q[i], k[j]) / sqrt(D) where i >= j gate r[i] also sv { score dot(q[i], sk[j]) / 5 + y[h, j] } "
       "normalize entmax15"},
      {"entmax15Listed",
       "keys = list[h] where i >= j score dot(q[i], k[j]) / sqrt(D) also sv { where j < near score dot(q[i], sk[j]) / "
       "sqrt(D) gate tanh(y[h, j]) } normalize entmax15"},
      {"listed",
       "keys = list[h] where i >= j score dot(q[i], k[j]) / sqrt(D) also sv { where j < near score dot(q[i], sk[j]) / "
       "sqrt(D) }"},
      {"selected",
       "where i >= j score dot(q[i], k[j]) / sqrt(D) also sv { where j < near score dot(q[i], sk[j]) / sqrt(D) } "
       "select tiles(32, 32) { keep topk(dot(mean_before(q), mean(k)), tiles[h]) keep diagonal }"},
  };
  for (auto &[name, body] : bodies) {
    auto variant = variantOf(head + body + " }");
    const Shape shape{2, 2, 1, 70, 45, 32, 16};
    auto inputs = randomInputs(*variant, shape, 3);
    auto cotangent = randomCotangent(shape, 3);
    auto want = reference::evaluate(variant->tree(), inputs, cotangent);
    for (const Device &device : {Device{}, Device{Device::Kind::PtxEmulator, 0}})
      for (bool twoPass : {false, true}) {
        CallOptions options;
        options.device = device;
        options.form = twoPass ? BackwardForm::TwoPass : BackwardForm::Fused;
        options.tileQ = 32;
        options.tileK = twoPass ? 16 : 32;
        auto got = call(variant, inputs, cotangent, options);
        EXPECT_LT(relativeError(got.o, want.o.values), tolerance) << name;
        EXPECT_LT(relativeError(got.lse, want.lse.values), tolerance) << name;
        for (auto &[input, gradient] : want.gradients)
          EXPECT_LT(relativeError(got.gradients.at(input), gradient.values), 4 * tolerance)
              << name << " " << input << (twoPass ? " in two passes" : "");
      }
  }
}

// Its keys are not those of v: other pairs, other random numbers.
TEST(Also, dropsOtherPairs) {
  const std::string head =
      "attention t(q: [B,H,T,D], k: [B,H,S,D], v: [B,H,S,E], sk: [B,H,M,D], sv: [B,H,M,E]) { dropout 0.5 normalize "
      "none ";
  auto variant = variantOf(head + "score 1.0 also sv { score -1.0 } }");
  const Shape shape{1, 1, 1, 32, 8, 16, 16};
  auto inputs = randomInputs(*variant, shape, 1);
  inputs["v"].values.assign(inputs["v"].values.size(), 1.0);
  inputs["sv"].values = inputs["v"].values;
  double apart = 0;
  for (float o : call(variant, inputs, {}).o) apart += o != 0;
  EXPECT_GT(apart, 100);  // all 0 if j dropped the same pairs of both
}

// The random numbers are the same on each device, and in both passes: all gradients fit the output of their own device.
TEST(Dropout, dropsTheSamePairsOnEachDevice) {
  auto variant = variantOf(
      "attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E]) { where i >= j score dot(q[i], k[j]) / sqrt(D) dropout "
      "0.25 }");
  const Shape shape{2, 2, 1, 50, 50, 16, 16};
  const auto inputs = randomInputs(*variant, shape, 3);
  const auto cotangent = randomCotangent(shape, 3);
  CallOptions options;
  options.tileQ = options.tileK = 32;
  const auto want = call(variant, inputs, cotangent, options);
  const auto plain = call(variantOf("causal"), inputs, cotangent, options);
  EXPECT_GT(relativeError(want.o, std::vector<double>(plain.o.begin(), plain.o.end())), 0.01);
  options.device = Device{Device::Kind::PtxEmulator, 0};
  const auto got = call(variant, inputs, cotangent, options);
  EXPECT_LT(relativeError(got.o, std::vector<double>(want.o.begin(), want.o.end())), tolerance);
  for (auto &[name, gradient] : want.gradients)
    EXPECT_LT(relativeError(got.gradients.at(name), gradient), 4 * tolerance) << name;
}

TEST(KeyLists, sumsOfAKeyGoToItsPlace) {
  for (const char *text :
       {"attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E], x: [G,S], y: [B,H,S], list: int [B,H,N]) { keys = "
        "list[h] where i >= j or j < 9 score dot(q[i], k[j]) / sqrt(D) + x[j] gate 1 + y[j] }",
        "attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E], x: [G,S], y: [B,H,S], list: int [H,M,N]) { keys = "
        "list[i div 32] score dot(q[i], k[j]) / sqrt(D) weight sigmoid(x[j]) * exp(y[j]) }"}) {
    auto variant = variantOf(text);
    const Shape shape{2, 4, 2, 70, 90, 16, 16};
    auto inputs = randomInputs(*variant, shape, 3);
    // Some twice, some that are none.
    std::mt19937_64 random(1);
    for (double &value : inputs["list"].values) value = static_cast<double>(random() % 100) - 5;
    SCOPED_TRACE(text);
    expectTheOracles(variant, inputs, randomCotangent(shape, 3));
  }
}

TEST(Segments, areFoundByTheirOffsets) {
  const std::string start =
      "attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E], z: [H,P], c: int [N], d: int [B,N], e: int [G,N], f: int "
      "[B,H,N], list: int [B,T,M]) { ";
  for (const char *statements :
       {"where segment(c, i) == segment(c, j) score dot(q[i], k[j]) / sqrt(D)",
        "where i >= j and segment(d, i) == segment(d, j) score dot(q[i], k[j]) / sqrt(D) - 0.1 * segment(e, j)",
        "where segment(f, 2 * i - 7) >= segment(c, j + 3) score dot(q[i], k[j]) / sqrt(D) + z[h, clamp(segment(c, i), "
        "0, 7)]",
        "let own = segment(d, j) score dot(q[i], k[j]) / sqrt(D) + (if own >= 0 then 0.1 * (j - d[own]) else 1)",
        "keys = list[i] where segment(c, i) == segment(c, j) score dot(q[i], k[j]) / sqrt(D) + 0.1 * segment(e, i)"}) {
    SCOPED_TRACE(statements);
    auto variant = variantOf(start + statements + " }");
    for (const int64_t count : {1, 5, 8}) {
      const Shape shape{2, 4, 2, 70, 60, 16, 16};
      auto inputs = randomInputs(*variant, shape, 3);
      std::mt19937_64 random(count);
      for (const char *name : {"c", "d", "e", "f"}) {
        reference::Array &offsets = inputs[name];
        const int64_t rows = static_cast<int64_t>(offsets.values.size()) / offsets.shape.back();
        offsets.shape.back() = count;
        offsets.values.clear();
        for (int64_t row = 0; row < rows; ++row) {
          for (int64_t n = 0; n < count; ++n) offsets.values.push_back(static_cast<double>(random() % 70) - 2);
          std::sort(offsets.values.end() - count, offsets.values.end());
        }
      }
      for (double &value : inputs["list"].values) value = static_cast<double>(random() % 70) - 5;
      expectTheOracles(variant, inputs, randomCotangent(shape, 3));
    }
  }
}

TEST(EmptyRows, giveZeroAndMinusInfinity) {
  auto variant =
      variantOf("attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E]) { where i > j + 3 score dot(q[i], k[j]) }");
  const Shape shape{1, 1, 1, 70, 70, 16, 16};
  auto inputs = randomInputs(*variant, shape, 3);
  auto got = call(variant, inputs, randomCotangent(shape, 1));
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(got.lse[i], -INFINITY);
    for (int e = 0; e < 16; ++e) EXPECT_EQ(got.o[i * 16 + e], 0.0f);
  }
  for (auto &[name, gradient] : got.gradients)
    for (double value : gradient) EXPECT_TRUE(std::isfinite(value)) << name;
}

TEST(EmptyRows, giveZeroWithoutALogSumExp) {
  auto variant = variantOf(
      "attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E]) { where i > j + 3 score dot(q[i], k[j]) normalize "
      "entmax15 }");
  const Shape shape{1, 1, 1, 70, 70, 16, 16};
  auto inputs = randomInputs(*variant, shape, 3);
  auto got = call(variant, inputs, randomCotangent(shape, 1));
  for (int at = 0; at < 4 * 16; ++at) EXPECT_EQ(got.o[at], 0.0f);
  for (auto &[name, gradient] : got.gradients)
    for (double value : gradient) EXPECT_TRUE(std::isfinite(value)) << name;
}

TEST(Sink, aloneTakesAll) {
  auto variant = variantOf(
      "attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E], c: [H]) { where i > j score dot(q[i], k[j]) sink c[h] }");
  const Shape shape{1, 1, 1, 20, 20, 16, 16};
  auto inputs = randomInputs(*variant, shape, 3);
  auto got = call(variant, inputs, {});
  EXPECT_FLOAT_EQ(got.lse[0], static_cast<float>(inputs["c"].values[0]));
  EXPECT_EQ(got.o[0], 0.0f);
}

TEST(TileSizes, giveTheSame) {
  auto variant = variantOf("span_periodic");
  const Shape shape{1, 2, 2, 150, 150, 32, 32};
  auto inputs = randomInputs(*variant, shape, 8);
  auto cotangent = randomCotangent(shape, 8);
  auto want = reference::evaluate(variant->tree(), inputs, cotangent);
  for (auto [q, k] : {std::pair{16, 16}, {32, 96}, {96, 48}, {128, 64}}) {
    auto got = call(variant, inputs, cotangent, {q, k, BackwardForm::Fused, 1});
    EXPECT_LT(relativeError(got.o, want.o.values), tolerance) << q << " " << k;
    for (auto &[name, gradient] : want.gradients)
      EXPECT_LT(relativeError(got.gradients.at(name), gradient.values), toleranceOf(name))
          << name << " " << q << " " << k;
  }
}

TEST(Bounds, anIndexThatLeavesItsDimIsNoted) {
  auto variant = variantOf("relative_bias");
  const Shape shape{1, 1, 1, 40, 40, 16, 16};
  auto inputs = randomInputs(*variant, shape, 8);
  EXPECT_FALSE(call(variant, inputs, {}).outside);
  inputs["bias"].shape = {1, 30};  // distances up to 39 are read
  inputs["bias"].values.resize(30);
  EXPECT_TRUE(call(variant, inputs, {}).outside);
}

TEST(Causality, laterTokensChangeNothingBefore) {
  for (const char *name : {"causal", "sliding_window", "alibi", "soft_cap", "document", "relative_bias",
                           "attention_sink", "adaptive_span", "span_periodic", "span_periodic_fourier",
                           "content_weight", "content_sparse", "flex_prefill", "block_sparse", "hip", "dhsa"}) {
    auto variant = variantOf(name);
    const Shape shape{1, 2, 2, 150, 150, 16, 16};
    auto inputs = randomInputs(*variant, shape, 4);
    auto before = call(variant, inputs, {});
    const int64_t changed = 90;
    for (auto &input : variant->inputs())
      if (input.isRow)
        for (int64_t h = 0; h < 2; ++h)
          for (int64_t c = 0; c < inputs[input.name].shape[3]; ++c)
            inputs[input.name].values[(h * 150 + changed) * inputs[input.name].shape[3] + c] += 3;
    auto after = call(variant, inputs, {});
    for (int64_t h = 0; h < 2; ++h)
      for (int64_t at = 0; at < changed * 16; ++at)
        ASSERT_EQ(before.o[h * 150 * 16 + at], after.o[h * 150 * 16 + at]) << name;
  }
}

}  // namespace
}  // namespace weft::testing
