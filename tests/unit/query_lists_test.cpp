// Keys of each query's own: rows of a tile are then heads.
#include <gtest/gtest.h>

#include <random>

#include "tests/unit/compare.h"
#include "tests/unit/inputs.h"

namespace weft::testing {
namespace {

/// Positions between -5 and 99 of 90 keys: some twice, some that are none.
void scatterKeys(std::map<std::string, reference::Array> &inputs, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (double &value : inputs["list"].values) value = static_cast<double>(random() % 105) - 5;
}

void expectRight(const std::string &text, const Shape &shape, int tile = 16) {
  SCOPED_TRACE(text);
  auto variant = variantOf(text);
  auto inputs = randomInputs(*variant, shape, 3);
  scatterKeys(inputs, 1);
  expectTheOracles(variant, inputs, randomCotangent(shape, 3), {.tile = tile});
}

const std::string rows = "attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E], ";

TEST(QueryLists, sharedByAllHeads) {
  const std::string text = rows + "list: int [B,T,N]) { keys = list[i] where i >= j score dot(q[i], k[j]) / sqrt(D) }";
  EXPECT_EQ(variantOf(text)->rows(), TileRows::Heads);
  expectRight(text, {2, 4, 2, 13, 90, 16, 16});
  expectRight(text, {1, 4, 1, 13, 90, 16, 20}, 32);
  expectRight(text, {1, 3, 3, 13, 90, 16, 16});
  expectRight(text, {2, 40, 2, 5, 90, 32, 16});  // more rows than a tile has
}

TEST(QueryLists, ofGroupsAndOfHeads) {
  for (const char *dims : {"[B,G,T,N]", "[G,T,N]", "[B,H,T,N]", "[H,T,N]", "[T,N]"}) {
    const std::string text = rows + "list: int " + dims + ") { keys = list[i] score dot(q[i], k[j]) / sqrt(D) }";
    const bool heads = std::string(dims).find('H') != std::string::npos;
    EXPECT_EQ(variantOf(text)->rows(), heads ? TileRows::Head : TileRows::Heads);
    expectRight(text, {2, 6, 2, 11, 90, 16, 16});
  }
  // Without groups each head has its own keys.
  expectRight(
      "attention t(q: [B,H,T,D], k: [B,H,S,D], v: [B,H,S,E], list: int [B,T,N]) { keys = list[i] where i >= j score "
      "dot(q[i], k[j]) / sqrt(D) }",
      {2, 3, 3, 11, 90, 16, 16});
}

TEST(QueryLists, numbersOfEveryKind) {
  for (const char *dims : {"[B,T,N]", "[B,H,T,N]"})
    for (const char *statements :
         {"score dot(q[i], k[j]) / sqrt(D) + x[j] + c[h] * r[i] gate 1 + y[j]",
          "where i >= j or j < 40 score dot(q[i], k[j]) / sqrt(D) - table[h, clamp(i - j, 0, 19)] weight sigmoid(x[j]) "
          "* "
          "exp(y[j])",
          "score dot(q[i], k[j]) / sqrt(D) + z[h, i] weight sigmoid(dot(u[i], w[j])) sink c[h]",
          "where j < 3 * h + 40 and b + i > 2 score dot(q[i], k[j]) * c[h] + r[i] normalize sigmoid",
          "score dot(q[i], k[j]) / sqrt(D) + tau * x[j] normalize entmax15", "score c[h] + a[b, j] normalize none"}) {
      const std::string text =
          rows + "c: [H], r: [B,H,T], z: [H,T], x: [G,S], y: [B,H,S], a: [B,S], table: [H,M], tau: [], " +
          "u: [B,H,T,R], w: [B,G,S,R], list: int " + dims + ") { keys = list[i] " + statements + " }";
      expectRight(text, {2, 4, 2, 9, 90, 16, 16});
    }
}

TEST(QueryLists, dropoutIsThatOfThePair) {
  const std::string score = " where i >= j score dot(q[i], k[j]) / sqrt(D) dropout 0.3 }";
  auto listed = variantOf(rows + "list: int [T,N]) { keys = list[i]" + score),
       all = variantOf(rows + "x: [H]) {" + score);
  const Shape shape{2, 4, 2, 24, 24, 16, 16};
  auto inputs = randomInputs(*all, shape, 3);
  const Outcome want = call(all, inputs, randomCotangent(shape, 3), {16, 16});
  inputs.erase("x");
  inputs["list"].shape = {shape.T, shape.S};
  for (int64_t at = 0; at < shape.T * shape.S; ++at) inputs["list"].values.push_back(static_cast<double>(at % shape.S));
  for (const char *target : {"host", "sm_80", "sm_90a"}) {
    CallOptions options{16, 16};
    options.target = target;
    if (options.target != "host") options.device = parseDevice("ptx-emulator:sm_90");
    const Outcome got = call(listed, inputs, randomCotangent(shape, 3), options);
    EXPECT_LT(relativeError(got.o, want.o), tolerance) << target;
    EXPECT_LT(relativeError(got.gradients.at("k"), want.gradients.at("k")), 4 * tolerance) << target;
  }
}

TEST(QueryLists, besideOtherKeys) {
  const std::string text =
      rows +
      "mk: [B,G,M,D], mv: [B,G,M,E], list: int [B,T,N]) { keys = list[i] where i >= j score dot(q[i], k[j]) / sqrt(D) "
      "also mv { where j * 4 < i score dot(q[i], mk[j]) / sqrt(D) } }";
  expectRight(text, {2, 4, 2, 33, 90, 16, 16});
}

TEST(QueryLists, onTensorCores) {
  auto variant =
      variantOf(rows +
                "c: [H], list: int [B,G,T,N]) { keys = list[i] where i >= j score dot(q[i], k[j]) / sqrt(D) + "
                "c[h] * 0.1 }");
  const Shape shape{1, 70, 1, 5, 90, 64, 64};
  auto inputs = randomInputs(*variant, shape, 3);
  scatterKeys(inputs, 1);
  auto cotangent = randomCotangent(shape, 3);
  for (const char *input : {"q", "k", "v"})
    for (double &value : inputs[input].values) value = rounded(ElementType::BF16, value);
  for (double &value : cotangent) value = rounded(ElementType::BF16, value);
  const auto want = reference::evaluate(variant->tree(), inputs, cotangent);
  for (const char *target : {"host", "sm_80", "sm_90a"})
    for (const BackwardForm form : {BackwardForm::Fused, BackwardForm::FusedQueries}) {
      SCOPED_TRACE(target);
      const bool cpu = std::string(target) == "host";
      if (cpu && form != BackwardForm::Fused) continue;
      CallOptions options{64, 64, form};
      if (!cpu) options.device = parseDevice("ptx-emulator:sm_90");
      options.target = target;
      options.type = ElementType::BF16;
      const Outcome got = call(variant, inputs, cotangent, options);
      EXPECT_LT(relativeError(got.o, want.o.values), 1.0 / 64);
      EXPECT_LT(relativeError(got.lse, want.lse.values), 1.0 / 64);
      for (const auto &[name, gradient] : want.gradients)
        EXPECT_LT(relativeError(got.gradients.at(name), gradient.values), 1.0 / 64) << name;
    }
}

}  // namespace
}  // namespace weft::testing
