// Kernels of sm_90a, whose products are those of warpgroups, on the strict emulator: forward and each gradient against
// the oracle, of every variant in one shape and of some in more. Variants with tiles of less than 64 rows have none;
// they are compiled all the same.
#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "compiler/default_schedule.h"
#include "tests/unit/call.h"
#include "tests/unit/inputs.h"

namespace weft::testing {
namespace {

struct Case {
  std::string variant;
  ElementType type;
  std::string name;
  Shape shape;
  int tileQ, tileK, keysQ, keysK;  ///< 0: as tileQ, tileK
  int stages = 2;
};
void PrintTo(const Case &param, std::ostream *stream) { *stream << param.variant; }

class WarpgroupNumerics : public ::testing::TestWithParam<Case> {};

TEST_P(WarpgroupNumerics, matchesReference) {
  const Case &param = GetParam();
  auto variant = variantOf(param.variant);
  auto inputs = randomInputs(*variant, param.shape, 17);
  auto cotangent = randomCotangent(param.shape, 5);
  for (const InputInfo &input : variant->inputs())
    if (input.isRow)
      for (double &value : inputs[input.name].values) value = rounded(param.type, value);
  for (double &value : cotangent) value = rounded(param.type, value);
  auto want = reference::evaluate(variant->tree(), inputs, cotangent);
  const bool hasTwoPass = variant->hasTwoPassBackward(param.shape.G != param.shape.H);
  for (BackwardForm form : {BackwardForm::TwoPass, BackwardForm::FusedKeys, BackwardForm::FusedQueries}) {
    if (hasTwoPass == (form == BackwardForm::FusedQueries)) continue;
    CallOptions options{param.tileQ, param.tileK, form, 2, parseDevice("ptx-emulator:sm_90"), param.type};
    options.target = "sm_90a";
    options.schedule.keysQ = param.keysQ;
    options.schedule.keysK = param.keysK;
    options.schedule.stages = param.stages;
    auto got = call(variant, inputs, cotangent, options);
    EXPECT_FALSE(got.outside);
    const Schedule used = fitted({param.tileQ, param.tileK}, *variant);
    if (used.tileQ % 64 == 0 && used.tileK % 64 == 0) EXPECT_GT(got.report.mma, 0);
    // As in GpuNumerics.
    const double unit = param.type == ElementType::BF16 ? 1.0 / 64 : 1.0 / 512;
    EXPECT_LT(relativeError(got.o, want.o.values), unit) << "o";
    if (variant->hasLogSumExp()) EXPECT_LT(relativeError(got.lse, want.lse.values, 1), unit) << "lse";
    for (auto &[name, gradient] : want.gradients) {
      const bool amplified = name == "period" || name == "ratio" || name == "slope";
      EXPECT_LT(relativeError(got.gradients.at(name), gradient.values), amplified ? 4 * unit : unit)
          << "gradient of " << name << ", " << weft::name(form);
    }
  }
}

/// What a kernel of bf16 rows of 64 becomes for sm_90a.
std::string codeOf(const std::string &variant, const std::string &kernel, Stage stage) {
  CompileRequest request;
  request.variant = variantOf(variant);
  request.kernel = kernel;
  request.type = ElementType::BF16;
  request.dims = {{"D", 64}, {"E", 64}};
  request.target = "sm_90a";
  request.stage = stage;
  const CompileResult result = compile(request);
  EXPECT_EQ(result.error, "");
  return result.text;
}

/// LLVM may move asm that it does not know to be of whole warps into branches that part of them take.
TEST(WarpgroupCode, AsmOfWholeWarpsIsConvergent) {
  std::istringstream lines(codeOf("causal", "backward_dkdv", Stage::Llvm));
  std::set<std::string> groups;
  std::string attributes;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("asm sideeffect") != std::string::npos && line.find("wgmma") != std::string::npos)
      groups.insert("attributes " + line.substr(line.rfind('#')) + " ");
    if (line.starts_with("attributes ")) attributes += line + "\n";
  }
  ASSERT_FALSE(groups.empty());
  for (const std::string &group : groups) {
    const size_t at = attributes.find(group);
    ASSERT_NE(at, std::string::npos) << group;
    EXPECT_NE(attributes.substr(at, attributes.find('\n', at) - at).find("convergent"), std::string::npos) << group;
  }
}

/// Between pairs a store would keep the loads of one behind those of the other, and each would wait for its own.
TEST(WarpgroupCode, TablesAreReadWithoutStoresBetweenPairs) {
  int reads = 0, notes = 0;
  std::istringstream lines(codeOf("vertical_slash", "forward", Stage::Assembly));
  for (std::string line; std::getline(lines, line);) {
    reads += line.find("ld.global.nc.b8") != std::string::npos;
    notes += line.find("st.global.b32") != std::string::npos && line.ends_with("], 1;");
  }
  EXPECT_GT(reads, 32);
  // That an index has left its dim is noted once, of the tile that is masked.
  EXPECT_EQ(notes, 1);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  // Rows of less than a panel, and lengths that no tile divides.
  for (const std::string &variant : libraryVariants())
    all.push_back({variant, ElementType::BF16, "odd", {1, 2, 1, 70, 70, 16, 16}, 64, 64, 0, 0});
  // Two warpgroups, three, panels in part and several; blocks of keys that are taller than those of queries.
  for (const char *variant : {"causal", "span_periodic", "stick_breaking", "content_weight"})
    all.push_back({variant, ElementType::BF16, "tall", {1, 1, 1, 150, 150, 64, 80}, 128, 64, 64, 128});
  for (const char *variant : {"causal", "soft_cap"}) {
    all.push_back({variant, ElementType::F16, "model", {1, 1, 1, 140, 140, 128, 128}, 128, 128, 64, 128});
    all.push_back({variant, ElementType::BF16, "narrow", {1, 1, 1, 20, 20, 20, 24}, 64, 64, 0, 0});
    all.push_back({variant, ElementType::F16, "moreQueries", {1, 2, 2, 200, 33, 32, 80}, 192, 64, 64, 192});
    all.push_back({variant, ElementType::BF16, "moreKeys", {1, 1, 1, 33, 130, 72, 32}, 64, 128, 128, 64});
  }
  // Heads that share keys, one turn after another; copies of 4 and 2 bytes; 256 rows of two warpgroups.
  for (int stages : {1, 3, 4})
    all.push_back({"causal",
                   ElementType::BF16,
                   "grouped" + std::to_string(stages),
                   {1, 4, 2, 150, 150, 64, 64},
                   64,
                   64,
                   64,
                   64,
                   stages});
  all.push_back({"causal", ElementType::BF16, "even", {1, 1, 1, 70, 70, 18, 34}, 64, 64, 0, 0});
  all.push_back({"causal", ElementType::F16, "uneven", {1, 1, 1, 70, 70, 17, 15}, 64, 64, 0, 0});
  all.push_back({"causal", ElementType::BF16, "tallest", {1, 1, 1, 300, 300, 64, 64}, 256, 64, 64, 256});
  all.push_back({"causal", ElementType::BF16, "widest", {1, 1, 1, 70, 70, 256, 256}, 64, 64, 0, 0});
  return all;
}

INSTANTIATE_TEST_SUITE_P(Library, WarpgroupNumerics, ::testing::ValuesIn(cases()), [](const auto &info) {
  return info.param.variant + "_" + name(info.param.type) + "_" + info.param.name;
});

}  // namespace
}  // namespace weft::testing
