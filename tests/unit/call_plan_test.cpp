// Call plans: their texts, the sizes that follow from dims, and what a prepared call refuses.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "runtime/call.h"
#include "tests/unit/call.h"

namespace weft::testing {
namespace {

const CallForm backward{.purpose = Purpose::Backward},
    twoPass{.purpose = Purpose::Backward, .backward = BackwardForm::TwoPass},
    byQueries{.purpose = Purpose::Backward, .backward = BackwardForm::FusedQueries},
    byKeys{.purpose = Purpose::Backward, .backward = BackwardForm::FusedKeys};
const char *const dropped = R"(attention dropped(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], slope: [H]) {
  score dot(q[i], k[j]) / sqrt(D) + slope[h] * (j - i)
  dropout 0.25
})";

struct Golden {
  std::string file, variant;
  CallForm form;
};

class Plans : public ::testing::TestWithParam<Golden> {};

TEST_P(Plans, PrintsAsKept) {
  const auto variant = variantOf(GetParam().variant);
  std::ifstream stream(std::string(WEFT_PLANS) + "/" + GetParam().file + ".txt");
  std::stringstream kept;
  kept << stream.rdbuf();
  EXPECT_EQ(print(planCall(*variant, ElementType::BF16, fitted({}, *variant), GetParam().form)), kept.str());
}

INSTANTIATE_TEST_SUITE_P(
    Library, Plans,
    ::testing::Values(Golden{"causal", "causal", {}}, Golden{"causal_two_pass", "causal", twoPass},
                      Golden{"causal_last_tile", "causal", {.lastTileOnly = true, .paged = true}},
                      Golden{"content_sparse", "content_sparse", {}},
                      Golden{"content_sparse_backward",
                             "content_sparse",
                             {.purpose = Purpose::Backward, .backward = BackwardForm::TwoPass, .selectionGiven = true}},
                      Golden{"content_sparse_select", "content_sparse", {.purpose = Purpose::Select}},
                      Golden{"gathered", "gathered", backward}, Golden{"stick_breaking", "stick_breaking", backward},
                      Golden{"causal_keys", "causal", byKeys}, Golden{"nsa_keys", "nsa", byKeys},
                      Golden{"attention_sink_keys", "attention_sink", byKeys},
                      Golden{"gathered_queries", "gathered", byQueries},
                      Golden{"stick_breaking_queries", "stick_breaking", byQueries}, Golden{"nsa", "nsa", twoPass},
                      Golden{"nsa_kept_tiles", "nsa", {.purpose = Purpose::KeptTiles}},
                      Golden{"dropped", dropped, {.purpose = Purpose::Backward, .seedGiven = true, .dLseGiven = true}}),
    [](const auto &info) { return info.param.file; });

/// Names find buffers: an input may not be called as one that a plan adds.
TEST(CallPlan, InputsAreCalledOtherwiseThanWhatPlansAdd) {
  size_t refused = 0;
  for (const char *name : {"nsa", "content_sparse", "stick_breaking"}) {
    const auto variant = variantOf(name);
    for (const CallForm &form : {CallForm{}, backward, CallForm{.lastTileOnly = true, .paged = true}}) {
      const CallPlan plan = planCall(*variant, ElementType::F32, fitted({}, *variant), form);
      for (size_t at = variant->inputs().size(); at < plan.buffers.size(); ++at) {
        const std::string &own = plan.buffers[at].name;
        const bool gradient = std::ranges::count(plan.gradients, static_cast<int>(at), &CallPlan::Gradient::buffer) > 0;
        if (gradient || own.find('.') != std::string::npos) continue;
        const ParseResult result = parse("attention a(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], " + own +
                                             ": [H]) { score dot(q[i], k[j]) + " + own + "[h] }",
                                         own);
        EXPECT_FALSE(result.diagnostics.empty()) << own;
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 20u);
}

TEST(CallPlan, SizesFollowFromDims) {
  const auto variant = variantOf("content_sparse");
  const CallPlan plan = planCall(*variant, ElementType::F32, fitted({}, *variant), {});
  std::vector<int64_t> given;
  for (size_t at = 0; at < plan.dimsGiven(); ++at) {
    const std::string &name = plan.dims[at].name;
    given.push_back(name == "B" ? 2 : name == "H" ? 6 : name == "G" ? 3 : name == "T" ? 100 : name == "S" ? 130 : 32);
  }
  const std::vector<int64_t> dims = dimsOf(plan, given);
  auto shape = [&](const char *name) { return shapeOf(plan.buffers.at(plan.buffer(name)), dims.data()); };
  EXPECT_EQ(shape("o"), (std::vector<int64_t>{2, 6, 100, 32}));
  EXPECT_EQ(shape("selection"), (std::vector<int64_t>{2, 6, 2, 3}));
  EXPECT_EQ(shape("entries"), (std::vector<int64_t>{2, 6, 2, 3}));
  EXPECT_EQ(roomOf(plan.buffers[plan.o], dims.data()), 4 * 2 * 6 * 100 * 32);
  EXPECT_EQ(roomOf(plan.buffers[plan.selection], dims.data()), 2 * 6 * 2 * 3);
  EXPECT_EQ(valueOf(plan.steps.back().programs, dims.data()), 2 * 6 * 2);
}

TEST(CallPlan, ABufferWithoutElementsHasRoomForOne) {
  const auto variant = variantOf("causal");
  const CallPlan plan = planCall(*variant, ElementType::F32, {}, {});
  const std::vector<int64_t> dims = dimsOf(plan, {2, 3, 3, 5, 0, 16, 8});
  EXPECT_EQ(roomOf(plan.buffers[plan.buffer("v")], dims.data()), 4 * 2 * 3 * 1 * 8);
}

TEST(CallPlan, TheLastTileIsWhatIsLeft) {
  const auto variant = variantOf("causal");
  Schedule schedule;
  schedule.tileQ = 16;
  const CallPlan plan = planCall(*variant, ElementType::F32, schedule, {.lastTileOnly = true});
  for (auto [T, rows] : {std::pair{1, 1}, {16, 16}, {17, 1}, {40, 8}}) {
    const std::vector<int64_t> dims = dimsOf(plan, {1, 1, 1, T, T, 16, 16});
    EXPECT_EQ(shapeOf(plan.buffers[plan.o], dims.data())[2], rows) << T;
  }
}

TEST(CallPlan, TooManyTilesAreRefused) {
  const auto variant = variantOf("document");
  const CallPlan plan = planCall(*variant, ElementType::F32, {}, {});
  const int64_t most = largestExtent;
  const std::vector<int64_t> dims = dimsOf(plan, {1, 1, 1, most, most, 16, 16});
  EXPECT_THROW(shapeOf(plan.buffers[plan.kept[0].entries], dims.data()), std::runtime_error);
}

TEST(CallPlan, ACallRefusesAPlanThatItsKernelsDoNotFollow) {
  CompileRequest request;
  request.variant = variantOf("causal");
  request.dims = {{"D", 16}, {"E", 16}};
  const CallPlan plan = planCall(*request.variant, ElementType::F32, request.schedule, {});
  EXPECT_NO_THROW(Call(plan, request, {}));
  CallPlan other = plan;
  other.steps.back().programs.factors.back().step = 32;
  EXPECT_THROW(Call(other, request, {}), std::runtime_error);
  other = plan;
  other.buffers[other.o].name = "p";
  EXPECT_THROW(Call(other, request, {}), std::runtime_error);
}

}  // namespace
}  // namespace weft::testing
