// Tile classification against brute force: no tile with a live element is empty, no full tile has a
// masked one, and where the bounds are closed-form they are as tight as brute force.
#include <gtest/gtest.h>

#include "tests/unit/call.h"
#include "tests/unit/inputs.h"

namespace weft::testing {
namespace {

void compare(const std::string &text, bool tight, int rounds) {
  auto variant = variantOf(text);
  std::mt19937_64 random(11);
  for (int round = 0; round < rounds; ++round) {
    Shape shape{1, 2, 2, 1 + static_cast<int64_t>(random() % 260), 1 + static_cast<int64_t>(random() % 260), 16, 16};
    if (text.find("doc") == std::string::npos && random() % 2) shape.S = shape.T;
    const int tileQ = 16 << random() % 3, tileK = 16 << random() % 3;
    auto inputs = randomInputs(*variant, shape, random());
    auto got = call(variant, inputs, {}, {tileQ, tileK, BackwardForm::Fused, 1});
    for (int64_t head = 0; head < 2; ++head) {
      auto live = reference::liveTiles(variant->tree(), inputs, 0, head, tileQ, tileK);
      for (size_t tile = 0; tile < live.size(); ++tile) {
        if (live[tile]) ASSERT_NE(got.tiles[head][tile], 0) << text << ": live tile skipped, round " << round;
        if (tight && !live[tile]) ASSERT_EQ(got.tiles[head][tile], 0) << text << ": dead tile kept, round " << round;
      }
    }
  }
}

TEST(Tiles, closedFormsAreTight) {
  for (const char *name : {"causal", "sliding_window", "alibi", "adaptive_span"}) {
    ASSERT_FALSE(variantOf(name)->needsLists()) << name;
    compare(name, true, 12);
  }
}

TEST(Tiles, listsAreSafe) {
  for (const char *name : {"document", "prefix_lm", "row_gate", "a_shape", "bucket", "power", "vertical_slash"}) {
    ASSERT_TRUE(variantOf(name)->needsLists()) << name;
    compare(name, false, 8);
  }
  compare("span_periodic", false, 6);
  compare("content_weight", false, 4);
}

TEST(Tiles, documentsKeepTheirOwnTiles) {
  // Whole documents of one tile: only diagonal tiles are kept.
  auto variant = variantOf("document");
  Shape shape{1, 2, 2, 256, 256, 16, 16};
  auto inputs = randomInputs(*variant, shape, 1);
  for (const char *name : {"doc", "key_doc"})
    for (int64_t at = 0; at < 256; ++at) inputs[name].values[at] = static_cast<double>(at / 64);
  auto got = call(variant, inputs, {});
  for (int qt = 0; qt < 4; ++qt)
    for (int kt = 0; kt < 4; ++kt) EXPECT_EQ(got.tiles[0][qt * 4 + kt] != 0, qt == kt);
}

TEST(Tiles, segmentsKeepTheirOwnTilesAndMarkThemFull) {
  auto variant = variantOf(
      "attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E], offsets: int [N]) { where segment(offsets, i) == "
      "segment(offsets, j) score dot(q[i], k[j]) }");
  auto inputs = randomInputs(*variant, {1, 2, 2, 256, 256, 16, 16}, 1);
  inputs["offsets"] = {{4}, {0, 64, 128, 256}};
  auto got = call(variant, inputs, {});
  for (int qt = 0; qt < 4; ++qt)
    for (int kt = 0; kt < 4; ++kt)
      EXPECT_EQ(got.tiles[0][qt * 4 + kt], qt == kt || qt + kt == 5 ? 2 : 0) << qt << ' ' << kt;
}

TEST(Tiles, powersOfTwoAndTheFirstColumn) {
  auto got = call(variantOf("power"), randomInputs(*variantOf("power"), {1, 1, 1, 640, 640, 16, 16}, 1), {});
  for (int qt = 0; qt < 10; ++qt)
    for (int kt = 0; kt < 10; ++kt) {
      const int tiles = qt - kt;
      const bool kept = tiles >= 0 && (kt == 0 || (tiles & (tiles - 1)) == 0);
      EXPECT_EQ(got.tiles[0][qt * 10 + kt], !kept ? 0 : tiles == 0 ? 1 : 2) << qt << ' ' << kt;
    }
}

TEST(Tiles, chosenColumnsAndDiagonalsAlone) {
  auto variant = variantOf("vertical_slash");
  Shape shape{1, 1, 1, 512, 512, 16, 16};
  auto inputs = randomInputs(*variant, shape, 1);
  for (auto *name : {"vertical", "slash"}) std::fill(inputs[name].values.begin(), inputs[name].values.end(), 0);
  inputs["vertical"].values[70] = 1;  // tile column 1
  inputs["slash"].values[0] = 1;      // the diagonal
  inputs["slash"].values[256] = 1;    // four tiles below
  auto got = call(variant, inputs, {});
  for (int qt = 0; qt < 8; ++qt)
    for (int kt = 0; kt < 8; ++kt)
      EXPECT_EQ(got.tiles[0][qt * 8 + kt] != 0, qt == kt || qt == kt + 4 || (kt == 1 && qt > 1)) << qt << ' ' << kt;
}

TEST(Tiles, masksMonotoneInDistance) {
  const std::string head =
      "attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E], span: [H] in 0 .. T, window: int [] in 1 .. T) { score "
      "dot(q[i], k[j]) ";
  for (const char *body :
       {"where 3 * (i - j) <= 40", "where not (i - j > window)", "where j - i < 5 where i <= j + window",
        "weight relu(span[h] - 2 * (i - j))", "where i - j >= 0 weight min(1, max(0, (span[h] - (i - j)) / 7))",
        "where floor((i - j) / 3) < 9 and j <= i"}) {
    ASSERT_FALSE(variantOf(head + body + " }")->needsLists()) << body;
    compare(head + body + " }", true, 6);
  }
}

TEST(Tiles, fullTilesAreMarked) {
  auto variant = variantOf("causal");
  Shape shape{1, 2, 2, 256, 256, 16, 16};
  auto got = call(variant, randomInputs(*variant, shape, 1), {});
  for (int qt = 0; qt < 4; ++qt)
    for (int kt = 0; kt < 4; ++kt) EXPECT_EQ(got.tiles[0][qt * 4 + kt], kt < qt ? 2 : kt == qt ? 1 : 0);
}

}  // namespace
}  // namespace weft::testing
