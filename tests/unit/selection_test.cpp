// Tiles chosen by content: the map of chosen tiles, outputs and gradients against the oracle, on the CPU and the
// emulator.
#include <gtest/gtest.h>

#include "tests/unit/call.h"
#include "tests/unit/inputs.h"

namespace weft::testing {
namespace {

const std::string head =
    "attention t(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], tiles: int [H] in 1 .. 2, share: [H] in 0.3 .. "
    "0.8) { score dot(q[i], "
    "k[j]) / sqrt(D) ";

const struct {
  const char *name;
  std::string text;
  Shape shape;
} selections[] = {
    {"topk",
     head + "where i >= j select tiles(16, 16) { keep topk(dot(mean_before(q), mean(k)), tiles[h]) keep diagonal keep "
            "first 1 } }",
     {2, 2, 1, 200, 200, 16, 32}},
    {"topp",
     head + "where i >= j select tiles(16, 32) { let a = dot(mean_before(q), mean(k)) keep topp(a, share[h]) keep "
            "diagonal } }",
     {1, 2, 2, 230, 230, 16, 16}},
    {"threshold",
     head + "where i >= j select tiles(32, 16) { keep dot(mean_before(q), mean(k)) > share[h] - 0.5 keep diagonal } }",
     {1, 2, 2, 200, 200, 16, 16}},
    {"union",
     head + "where i >= j select tiles(16, 16) { keep topk(dot(mean_before(q), max(k)), tiles[h]) keep "
            "topk(-dot(mean_before(q), min(k)), 2) "
            "keep i - j == 48 keep diagonal } }",
     {1, 2, 2, 200, 200, 16, 16}},
    {"rounds",
     head +
         "where i >= j select tiles(32, 64) { keep topk(dot(mean_before(q), mean(k)), 1) keep diagonal keep first 1 } "
         "select tiles(16, 16) { keep topp(dot(mean_before(q), mean(k)), share[h]) keep diagonal } }",
     {1, 2, 1, 270, 270, 16, 16}},
    {"bothWays",
     head + "select tiles(16, 16) { keep topk(dot(mean(q), last(k)) + dot(first(q), mean(k)), tiles[h] + 1) } }",
     {1, 2, 2, 90, 150, 32, 16}},
    {"near",
     head + "where i >= j select tiles(16, 16) { keep near(dot(mean_before(q), mean(k)), 0.3) keep diagonal keep first "
            "2 } }",
     {1, 2, 2, 200, 200, 16, 16}},
    {"keysNear",
     head + "where i >= j select keys(32) { keep near(dot(mean_before(q), k) / sqrt(D), share[h]) keep diagonal keep "
            "first 3 keep i - j <= 7 } }",
     {2, 4, 2, 200, 200, 16, 32}},
    {"keysTop",
     head + "where i >= j select keys(16) { keep topk(dot(mean_before(q), k), 20 * tiles[h]) keep diagonal } }",
     {1, 2, 2, 210, 210, 16, 16}},
    {"keysShare",
     head +
         "where i >= j select tiles(32, 64) { keep topk(dot(mean_before(q), mean(k)), 1) keep diagonal keep first 1 } "
         "select keys(32) { keep topp(dot(mean_before(q), k) / sqrt(D), share[h] / 2) keep diagonal } }",
     {1, 2, 2, 270, 270, 16, 16}},
    {"keysBothWays",
     head + "weight sigmoid(share[h] * (i - j) / 50) select keys(16) { keep dot(mean(q), k) > share[h] } }",
     {1, 2, 1, 90, 150, 32, 16}},
    {"given",
     head.substr(0, head.find(')')) + ", map: bool [H, N, N]) { score dot(q[i], k[j]) / sqrt(D) where i >= j select "
                                      "tiles(16, 32) { keep map[i div 16, "
                                      "j div 32] keep diagonal } }",
     {1, 2, 2, 200, 200, 16, 16}},
    {"document",
     head.substr(0, head.find(')')) +
         ", doc: int [B, T] in 0 .. 1 rising, key_doc: int [B, S] in 0 .. 1 rising) { score dot(q[i], k[j]) / sqrt(D) "
         "where i >= j where doc[i] == key_doc[j] select tiles(16, 16) { keep "
         "topk(dot(mean_before(q), mean(k)), tiles[h]) keep diagonal } }",
     {1, 2, 2, 200, 200, 16, 16}},
};

void compare(const CallOptions &options, double tolerance) {
  for (const auto &selection : selections) {
    auto variant = variantOf(selection.text);
    auto inputs = randomInputs(*variant, selection.shape, 23);
    auto cotangent = randomCotangent(selection.shape, 5);
    auto want = reference::evaluate(variant->tree(), inputs, cotangent);
    auto got = call(variant, inputs, cotangent, options);
    EXPECT_LT(relativeError(got.o, want.o.values), tolerance) << selection.name;
    EXPECT_LT(relativeError(got.lse, want.lse.values, 1), tolerance) << selection.name;
    for (auto &[name, gradient] : want.gradients)
      EXPECT_LT(relativeError(got.gradients.at(name), gradient.values), tolerance) << selection.name << " " << name;
    // The selection leaves something out, and the plan follows it to the tile.
    auto all = variantOf(selection.text.substr(0, selection.text.find("select")) + "}");
    Schedule tiles = fitted({options.tileQ, options.tileK}, *variant);
    if (variant->selectsKeys()) {
      tiles.tileQ = variant->selection().rounds.back().tileQ;
      tiles.tileK = 1;
    }
    size_t kept = 0, possible = 0;
    for (int64_t h = 0; h < selection.shape.H; ++h) {
      auto chosen = reference::liveTiles(variant->tree(), inputs, 0, h, tiles.tileQ, tiles.tileK);
      auto live = reference::liveTiles(all->tree(), inputs, 0, h, tiles.tileQ, tiles.tileK);
      for (size_t at = 0; at < live.size(); ++at) {
        kept += chosen[at];
        possible += live[at];
        // Intervals of document numbers are not tight: such a tile may be kept in vain.
        if (chosen[at] || selection.name != std::string("document"))
          EXPECT_EQ(variant->selectsKeys() ? got.selection[h * live.size() + at] != 0 : got.tiles[h][at] != 0,
                    chosen[at])
              << selection.name << " tile " << at;
      }
    }
    EXPECT_LT(kept, possible * 9 / 10) << selection.name;
    EXPECT_GT(kept, possible / 20) << selection.name;
  }
}

TEST(Selection, matchesReference) {
  for (BackwardForm form : {BackwardForm::Fused, BackwardForm::TwoPass}) compare({64, 64, form, 2}, 1.2e-5);
  compare({16, 16, BackwardForm::TwoPass, 1}, 1.2e-5);
}

TEST(Selection, matchesReferenceOnTheEmulator) {
  compare({64, 64, BackwardForm::TwoPass, 1, {Device::Kind::PtxEmulator, 0}}, 1.2e-5);
}

TEST(Selection, laterTokensChooseNothingBefore) {
  for (const auto &selection : selections) {
    if (selection.text.find("i >= j") == std::string::npos) continue;
    auto variant = variantOf(selection.text);
    const Shape &shape = selection.shape;
    auto inputs = randomInputs(*variant, shape, 4);
    auto before = call(variant, inputs, {});
    for (int64_t changed : {70, 96, 149}) {
      auto other = inputs;
      for (const InputInfo &input : variant->inputs()) {
        if (!input.isRow) continue;
        const auto &own = other[input.name].shape;
        for (int64_t row = 0; row < own[0] * own[1]; ++row)
          for (int64_t at = changed * own[3]; at < own[2] * own[3]; ++at)
            other[input.name].values[row * own[2] * own[3] + at] *= -5;
      }
      auto after = call(variant, other, {});
      for (int64_t row = 0; row < shape.B * shape.H; ++row)
        for (int64_t at = 0; at < changed * shape.E; ++at)
          ASSERT_EQ(before.o[row * shape.T * shape.E + at], after.o[row * shape.T * shape.E + at])
              << selection.name << " " << changed;
    }
  }
}

TEST(Selection, equalEstimatesKeepTheFirst) {
  auto variant = variantOf(selections[0].text);
  Shape shape{1, 1, 1, 160, 160, 16, 16};
  auto inputs = randomInputs(*variant, shape, 1);
  for (double &value : inputs["k"].values) value = 0;  // all estimates are 0, of both signs
  inputs["tiles"].values = {3};
  auto got = call(variant, inputs, {}, {16, 16, BackwardForm::Fused, 1});
  for (int qt = 0; qt < 10; ++qt)
    for (int kt = 0; kt < 10; ++kt)
      EXPECT_EQ(got.tiles[0][qt * 10 + kt] != 0, kt <= qt && (kt == qt || kt < 4)) << qt << " " << kt;
  inputs["tiles"].values = {0};
  got = call(variant, inputs, {}, {16, 16, BackwardForm::Fused, 1});
  for (int qt = 0; qt < 10; ++qt)
    for (int kt = 0; kt < 10; ++kt) EXPECT_EQ(got.tiles[0][qt * 10 + kt] != 0, kt == qt || kt == 0) << qt << " " << kt;
}

TEST(Selection, aScheduleOfOtherTilesIsRefused) {
  CompileRequest request;
  request.variant = variantOf("block_sparse");
  request.dims = {{"D", 64}, {"E", 64}};
  request.schedule.tileK = 96;
  EXPECT_NE(compile(request).error.find("expected tile sizes that divide those selected, 64 and 64, got 64 and 96"),
            std::string::npos);
}

}  // namespace
}  // namespace weft::testing
