// Every library variant's PTX, executed by the strict emulator: forward and each gradient against the oracle.
//
// A read or write outside a buffer, a race, a misaligned access or a value never written fails the call itself.
#include <gtest/gtest.h>

#include <set>

#include "tests/unit/call.h"
#include "tests/unit/inputs.h"

namespace weft::testing {
namespace {

struct Case {
  std::string variant;
  ElementType type;
  size_t shape;
  int tileQ, tileK;
};
void PrintTo(const Case &param, std::ostream *stream) { *stream << param.variant; }

const struct {
  const char *name;
  Shape shape;
} shapes[] = {
    {"odd", {1, 2, 1, 70, 70, 16, 16}},          {"moreKeys", {1, 1, 1, 33, 130, 64, 32}},
    {"moreQueries", {1, 2, 2, 130, 33, 32, 80}}, {"wide", {1, 1, 1, 40, 40, 128, 128}},
    {"narrow", {1, 1, 1, 20, 20, 20, 24}},       {"tall", {1, 1, 1, 150, 150, 64, 80}},
    {"model", {1, 1, 1, 70, 70, 128, 128}},
};

/// f32: as on the CPU. Halves: operands, probabilities and ds are rounded to 2^-9 (bf16) or 2^-12 (f16) of
/// themselves, outputs once more; sums of up to 130 such terms stay within a few units.
double toleranceOf(ElementType type, const std::string &input) {
  const double unit = type == ElementType::F32 ? 1.2e-5 : type == ElementType::BF16 ? 1.0 / 64 : 1.0 / 512;
  return input == "period" || input == "ratio" || input == "slope" ? 4 * unit : unit;
}

class GpuNumerics : public ::testing::TestWithParam<Case> {};

TEST_P(GpuNumerics, matchesReference) {
  const Case &param = GetParam();
  const Shape &shape = shapes[param.shape].shape;
  auto variant = variantOf(param.variant);
  auto inputs = randomInputs(*variant, shape, 17 + param.shape);
  auto cotangent = randomCotangent(shape, 5);
  for (const InputInfo &input : variant->inputs())
    if (input.isRow)
      for (double &value : inputs[input.name].values) value = rounded(param.type, value);
  for (double &value : cotangent) value = rounded(param.type, value);
  auto want = reference::evaluate(variant->tree(), inputs, cotangent);
  const bool hasTwoPass = variant->hasTwoPassBackward(shape.G != shape.H);
  for (BackwardForm form :
       {BackwardForm::TwoPass, BackwardForm::FusedKeys, BackwardForm::FusedQueries, BackwardForm::Fused}) {
    if ((form == BackwardForm::TwoPass || form == BackwardForm::FusedKeys) && !hasTwoPass) continue;
    // The forms of others: once.
    if (form == BackwardForm::FusedQueries && hasTwoPass && param.shape != 0) continue;
    if (form == BackwardForm::Fused && (param.shape != 0 || param.type == ElementType::F16)) continue;
    // Large tiles do not fit the shared memory of an sm_80.
    const Device device = parseDevice(param.tileQ > 64 ? "ptx-emulator:sm_90" : "ptx-emulator");
    CallOptions options{param.tileQ, param.tileK, form, 2, device, param.type};
    auto got = call(variant, inputs, cotangent, options);
    EXPECT_FALSE(got.outside);
    EXPECT_GT(got.report.mma, 0);
    if (shape.D % 16 == 0) EXPECT_EQ(got.report.bankConflicts, 0);
    EXPECT_LT(relativeError(got.o, want.o.values), toleranceOf(param.type, "")) << "o";
    if (variant->hasLogSumExp())
      EXPECT_LT(relativeError(got.lse, want.lse.values, 1), toleranceOf(param.type, "")) << "lse";
    for (auto &[name, gradient] : want.gradients)
      EXPECT_LT(relativeError(got.gradients.at(name), gradient.values), toleranceOf(param.type, name))
          << "gradient of " << name;
  }
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::string &variant : libraryVariants())
    for (ElementType type : {ElementType::F32, ElementType::BF16, ElementType::F16})
      for (size_t shape = 0; shape < std::size(shapes); ++shape) {
        // Every shape with the plain variant, a small one with the rest.
        if (shape > 4 || (variant != "causal" && shape != 0)) continue;
        // f16 has the code of bf16, in tiles that are not square: variants that differ most.
        const std::set<std::string> some{"causal", "span_periodic", "content_weight", "stick_breaking",
                                         "nsa",    "gathered",      "relative_bias",  "soft_cap"};
        if (type == ElementType::F16 && !some.count(variant)) continue;
        // Rows of 128 floats fit no GPU in tiles of 64.
        const int tile = type == ElementType::F32 && shapes[shape].shape.D > 64 ? 32 : 64;
        // More queries than keys in a tile, and fewer.
        const bool odd = shape == 0;
        all.push_back({variant, type, shape, odd && type == ElementType::F16 ? 32 : tile,
                       odd && type == ElementType::F32 ? 32 : tile});
        // Large tiles and the widths of real models, once each.
        if (shape == 0 && type == ElementType::BF16) {
          const bool plain = variant == "causal" || variant == "span_periodic" || variant == "content_sparse" ||
                             variant == "stick_breaking" || variant == "relative_bias";
          if (plain) all.push_back({variant, type, 5, 128, 128});
          all.push_back({variant, type, 6, 32, 32});
        }
        if (variant == "causal" && shape == 1 && type != ElementType::F32)
          all.push_back({variant, type, shape, 128, 128});
      }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Library, GpuNumerics, ::testing::ValuesIn(cases()), [](const auto &info) {
  return info.param.variant + "_" + name(info.param.type) + "_" + shapes[info.param.shape].name + "_" +
         std::to_string(info.param.tileQ) + "x" + std::to_string(info.param.tileK);
});

}  // namespace
}  // namespace weft::testing
