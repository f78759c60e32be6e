// Functions of the language, their derivatives and what surrounds them, on the CPU and on the emulator, against the
// oracle.
#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <random>

#include "runtime/weft.h"
#include "tests/unit/compare.h"
#include "tests/unit/inputs.h"

namespace weft::testing {
namespace {

using Inputs = std::map<std::string, reference::Array>;

/// All magnitudes up to 2^31, both signs, and the edges.
void fillWithInts(Inputs &inputs, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (const char *name : {"x", "y"})
    for (double &value : inputs[name].values) {
      const int bits = static_cast<int>(random() % 32);
      value = static_cast<double>(static_cast<int64_t>(random() % (int64_t{1} << bits)) + (random() % 3 == 0 ? 0 : 1)) *
              (random() % 2 ? 1 : -1);
      value = std::min(value, 2147483647.0);
    }
  for (int at = 0; at < 5; ++at) inputs["y"].values[at] = at - 2;
  for (const char *name : {"x", "y"})
    for (int at = 0; at < 6; ++at)
      inputs[name].values[10 + 2 * at] =
          std::array{-2147483648.0, -2147483647.0, 2147483647.0, 2147483646.0, 1073741824.0, -1073741824.0}[at];
}

class IntFunctions : public ::testing::TestWithParam<const char *> {};

TEST_P(IntFunctions, areExact) {
  // Two remainders of a number say all of its bits but a few.
  const std::string number = GetParam();
  auto variant =
      variantOf("attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E], x: int [T], y: int [S]) { let n = " + number +
                " score (n mod 1021) * 0.001 + (n mod 1009) * 0.01 }");
  const Shape shape{1, 1, 1, 110, 100, 16, 16};
  auto inputs = randomInputs(*variant, shape, 3);
  fillWithInts(inputs, 5);
  expectTheOracles(variant, inputs, {}, {.tile = 64});
}

INSTANTIATE_TEST_SUITE_P(Functions, IntFunctions,
                         ::testing::Values("x[i] mod y[j]", "x[i] div y[j]", "x[i] % 64", "x[i] div 64", "x[i] div 7",
                                           "x[i] & y[j]", "x[i] | y[j]", "x[i] ^ y[j]", "x[i] << (y[j] mod 40 - 4)",
                                           "x[i] >> (y[j] mod 40 - 4)", "x[i] << y[j]", "x[i] + y[j] * (x[i] > y[j])"));

/// Output and gradients on both devices.
void compare(const std::string &body, const std::function<void(Inputs &)> &change = {}, bool outside = false) {
  SCOPED_TRACE(body);
  auto variant = variantOf(
      "attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E], r: [B,H,T], x: [S], c: [H], table: [H,N], flag: bool "
      "[B,S], list: int [T], memory: [H,M], const w: int = 24, const z: float = 2) { " +
      body + " }");
  const Shape shape{1, 2, 2, 70, 70, 16, 16};
  auto inputs = randomInputs(*variant, shape, 3);
  for (size_t at = 0; at < inputs["list"].values.size(); ++at)
    inputs["list"].values[at] = static_cast<double>(at % 9) - 4;
  if (change) change(inputs);
  expectTheOracles(variant, inputs, randomCotangent(shape, 3), {.outside = outside});
}

const std::string product = "score dot(q[i], k[j]) / sqrt(D) ";

TEST(Functions, erfLog2AndTan) {
  compare(product + "+ erf(r[i] + x[j])");
  compare(product + "+ erf(8 * r[i]) * erf(-3 * x[j]) + erf(r[i] / 50)");
  compare(product + "+ log2(1.25 + tanh(r[i] * x[j])) + log2(abs(i - j) + 1)");
  compare(product + "+ tan(0.7 * tanh(r[i] + x[j]))");
  compare(product + "where erf(x[j]) > -0.4 and floor(log2(i + 1)) == 5 weight 1.5 + erf(r[i])");
  // Powers of two have whole logarithms.
  compare(product + "+ floor(log2(max(i - j, 1))) * 0.1");
}

TEST(Functions, ofOddFloats) {
  const double infinity = std::numeric_limits<double>::infinity();
  auto odd = [&](Inputs &inputs) {
    auto &values = inputs["x"].values;
    for (size_t at = 0; at < values.size(); ++at)
      values[at] = std::array{infinity, -infinity, 1e30, -1e30, 0.0, -0.0, 1.0, -1.0, 3.9, -4.1}[at % 10];
  };
  compare(product + "+ erf(x[j])", odd);
  compare(product + "where log2(abs(x[j])) < 2", odd);
}

TEST(Conditions, areNumbersInArithmetic) {
  compare(product + "+ 0.5 * (i >= j) - flag[j] / 4");
  compare(product + "weight flag[j] + 0.5 gate i >= j");
  compare(product + "where (i >= j) + flag[j] + (i - j < 9) >= 2");
  compare(product + "+ table[h, flag[j]]");
}

TEST(Conditions, areEqualOrNot) {
  compare(product + "where flag[j] == (i >= j)");
  compare(product + "where flag[j] != (i - j < 20)");
  compare(product + "where (i >= j) & (flag[j] | (i - j < 9)) ^ (j < 4)");
}

TEST(Constants, mayBeInts) {
  compare(product + "where i div w == j div w and i >= j");
  compare(product + "* z where i - j < w");
}

TEST(Infinity, isANumber) {
  compare(product + "where x[j] < inf and r[i] > -inf");
  // Of some pairs of each row.
  compare("score if (i + j) mod 3 == 0 then -inf else dot(q[i], k[j]) / sqrt(D)");
}

TEST(Definitions, standForTheirExpressions) {
  compare(
      "def near(n, width) = abs(n) < width def wave(n) = sin(n / 8) * c[h] "
      "def both(n) = wave(n) + wave(2 * n) def at(r, n) = r[n] def halved(c) = c[h] / 2 let d = i - j where near(d, w) "
      "score dot(q[i], k[j]) / sqrt(D) + both(d) + at(x, j) + "
      "halved(c)");
}

TEST(Terms, areJoined) {
  compare(product + "where i >= j and (i - j < 9 or any(n < 5, abs(list[i] + 12 * n - j) < 2))");
  compare(product + "where all(n < 3, (i - j) mod (n + 2) != 1)");
  compare("def wave(a, n) = cos(a * (n + 1) / 8) " + product +
          "+ sum(n < 6, table[h, n] * wave(i - j, n) + sum(m < 2, 0.1 * memory[h, m + n]))");
  compare(product + "+ 0.1 * sum(n < 64, flag[n]) + any(n < 1, i > j)");
  // As many as the call's memory has: 8.
  compare("def wave(n) = sum(m < M, 0.1 * memory[h, m] * cos(n * m)) where i >= j and all(n < M, i - j != 3 * n) " +
          product + "+ wave(i - j) + sum(n < M, n * x[j]) / 100");
}

TEST(Terms, areGivenToTheInterfaceInC) {
  weft_variant *variant = weft_parse(
      "attention t(q: [B,H,T,D], k: [B,H,S,D], v: [B,H,S,E], a: [N]) { score dot(q[i], k[j]) + sum(n < N, a[n] * j) }");
  ASSERT_TRUE(variant) << weft_error();
  const char *const rows[] = {"D", "E", "N"};
  const int64_t sizes[] = {16, 16, 3};
  EXPECT_FALSE(weft_compile(variant, WEFT_FORWARD, WEFT_F32, "cpu", 2, rows, sizes));
  EXPECT_STREQ(weft_error(), "variant 't': expected dim N, a number of terms, from 1 to 64, got none");
  weft_call *call = weft_compile(variant, WEFT_FORWARD, WEFT_F32, "cpu", 3, rows, sizes);
  ASSERT_TRUE(call) << weft_error();
  std::vector<int64_t> dims(weft_call_dims(call), 16);
  int at = 0;
  while (std::string(weft_call_dim(call, at)) != "N") ++at;
  EXPECT_LT(weft_call_shape(call, 3, dims.data(), nullptr), 0);
  EXPECT_STREQ(weft_error(), "expected 3 for dim N, the number of terms it is compiled of, got 16");
  dims[at] = 3;
  EXPECT_GE(weft_call_shape(call, 3, dims.data(), nullptr), 12) << weft_error();
  weft_call_free(call);
  weft_variant_free(variant);
}

TEST(Guards, coverTheIndexBehindThem) {
  auto longTable = [](Inputs &inputs) {
    inputs["table"].shape = {2, 30};
    inputs["table"].values.resize(60);
  };
  compare(product + "+ (if i - j >= 0 and i - j < N then table[h, i - j] else x[j])", longTable);
  compare(product + "+ (if i < j then 0.25 else if i - j >= N then -0.5 else table[h, i - j])", longTable);
  compare(product + "where i >= j and (i - j >= N or table[h, i - j] > 0)", longTable);
  compare(product + "where not (i < j or i - j >= N) and table[h, i - j] > -1", longTable);
  // Once named, and used in two places that have a condition in common.
  compare("let t = table[h, i - j] let near = i >= j and i - j < N " + product +
              "+ (if near then 0.5 * t else 0.1) where if near then t > -1 else i >= j",
          longTable);
  compare(product + "+ (if j < M then memory[h, j] else 0) where if list[i] >= 0 then j != list[i] else flag[j]",
          [](Inputs &inputs) {
            inputs["memory"].shape = {2, 5};
            inputs["memory"].values.resize(10);
          });
  // One use that no condition covers.
  compare("let t = table[h, i - j] " + product + "+ t + (if i - j < N then t else 0) where i >= j", longTable, true);
  // What the condition says must hold there.
  compare(product + "+ (if i - j <= N then table[h, i - j] else 0) where i >= j", longTable, true);
  compare(product + "+ (if i - j < N then 0.0 else table[h, i - j]) where i >= j", longTable, true);
}

}  // namespace
}  // namespace weft::testing
