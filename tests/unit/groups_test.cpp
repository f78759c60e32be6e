// Heads that share keys in one way and values in another.
#include <gtest/gtest.h>

#include "tests/unit/compare.h"
#include "tests/unit/inputs.h"

namespace weft::testing {
namespace {

void expectRight(const std::string &text, const Shape &shape) {
  SCOPED_TRACE(text);
  auto variant = variantOf(text);
  expectTheOracles(variant, randomInputs(*variant, shape, 3), randomCotangent(shape, 3), {.tile = 32});
}

// Of eight heads: k in four groups or as many, v in two or one.
const Shape shapes[] = {{2, 8, 2, 37, 70, 16, 16}, {1, 4, 1, 70, 37, 32, 16}, {1, 3, 3, 20, 20, 16, 16}};

TEST(Groups, ofKeysAndOfValues) {
  for (const Shape &shape : shapes) {
    expectRight(
        "attention t(q: [B,H,T,D], k: [B,G2,S,D], v: [B,G,S,E]) { where i >= j score dot(q[i], k[j]) / sqrt(D) }",
        shape);
    expectRight("attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G2,S,E]) { score dot(q[i], k[j]) / sqrt(D) }", shape);
    expectRight(
        "attention t(q: [B,H,T,D], k: [B,H,S,D], u: [B,H,T,R], w: [B,G,S,R], v: [B,G2,S,E]) { score (dot(q[i], "
        "k[j]) + dot(u[i], w[j])) / sqrt(D) }",
        shape);
  }
}

TEST(Groups, ofTables) {
  for (const auto &[shape, k] : {std::pair(shapes[0], "G"), {shapes[1], "G2"}, {shapes[2], "G2"}})
    for (const char *statements :
         {"score dot(q[i], k[j]) / sqrt(D) + bias[i, j]", "score dot(q[i], k[j]) * c[h] + x[j] - table[h, i - j + S]",
          "where j <= i + reach[h] score dot(q[i], k[j]) / sqrt(D)",
          "score dot(q[i], k[j]) weight sigmoid(x[j]) gate 1 + r[i] sink c[h]",
          "where segment(marks, i) == segment(marks, j) score dot(q[i], k[j]) / sqrt(D)"})
      expectRight("attention t(q: [B,H,T,D], k: [B," + std::string(k) +
                      ",S,D], v: [B,G,S,E], bias: [B,G2,T,S], c: [G2], x: [B,G2,S], r: [G2,T], table: [G2,N], reach: "
                      "int [G2], marks: int [G2,P] in 0 .. S rising) { " +
                      statements + " }",
                  shape);
}

TEST(Groups, ofLists) {
  for (const char *text :
       {"k: [B,G,S,D], v: [B,G,S,E], x: [G2,S], table: [G2,N], list: int [B,T,P] in 0 .. S) { keys = list[i] score "
        "dot(q[i], k[j]) / sqrt(D) + x[j] - table[h, i - j + S] }",
        "k: [B,G2,S,D], v: [B,G,S,E], list: int [B,T,P] in 0 .. S) { keys = list[i] score dot(q[i], k[j]) / sqrt(D) }",
        "k: [B,G,S,D], v: [B,G,S,E], list: int [G2,T,P] in 0 .. S) { keys = list[i] score dot(q[i], k[j]) / sqrt(D) }",
        "k: [B,G2,S,D], v: [B,G,S,E], list: int [G2,P] in 0 .. S) { keys = list[h] score dot(q[i], k[j]) / sqrt(D) }"})
    expectRight("attention t(q: [B,H,T,D], " + std::string(text), {2, 4, 1, 13, 70, 16, 16});
}

TEST(Groups, whatIsRefused) {
  auto complaint = [](const std::string &text) {
    const ParseResult parsed = parse(text, "t");
    return parsed.diagnostics.empty() ? std::string() : parsed.diagnostics[0].message;
  };
  EXPECT_EQ(complaint("attention t(q: [B,H,T,D], k: [B,G2,S,D], v: [B,H,S,E]) { score dot(q[i], k[j]) }"),
            "expected the dim G beside G2, got none");
  EXPECT_EQ(complaint("attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E], x: [T,G2]) { score x[i, 0] }"),
            "expected G2 to stand first or after B in 'x'");
  EXPECT_EQ(complaint("attention t(q: [B,H,T,D], k: [B,G2,S,D], v: [B,G,S,E]) { select tiles(16, 16) { keep "
                      "topk(dot(mean_before(q), mean(k)), 2) } score dot(q[i], k[j]) }"),
            "expected pooled rows of heads H or of groups G, got G2 of 'k'");
  EXPECT_EQ(complaint("attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E], x: [T,Gate]) { score x[i, 0] }"), "");
}

}  // namespace
}  // namespace weft::testing
