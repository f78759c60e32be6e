// What a device could do at most: the loops that measure a CPU, and what is known of GPUs.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "compiler/compiler.h"
#include "compiler/peak.h"
#include "runtime/cpu/object_loader.h"
#include "runtime/cuda/data_sheet.h"
#include "runtime/roof.h"

namespace weft {
namespace {

std::vector<std::string> chains(ElementType type, const std::string &target) {
  std::vector<std::string> all;
  for (const PeakLoop &loop : peakLoops(type, target)) {
    EXPECT_FALSE(loop.code.empty());
    all.push_back(loop.chain);
  }
  return all;
}

TEST(Roof, ChainsAreThoseTheCpuHas) {
  if (hostIdentity().find("+sse2") == std::string::npos) GTEST_SKIP() << "names of x86 CPUs";
  using List = std::vector<std::string>;
  const std::string wide = "28 chains of f32 fma in 16 lanes",
                    dot = "28 chains of bf16 dot products of pairs in 16 lanes",
                    amx = "6 chains of AMX products of 16 x 32 bf16";
  EXPECT_EQ(chains(ElementType::F32, "x86-64"), List{"12 chains of f32 fma in 4 lanes"});
  EXPECT_EQ(chains(ElementType::BF16, "haswell"), List{"12 chains of f32 fma in 8 lanes"});
  EXPECT_EQ(chains(ElementType::F32, "skylake-avx512"), List{wide});
  EXPECT_EQ(chains(ElementType::BF16, "skylake-avx512"), List{wide});
  EXPECT_EQ(chains(ElementType::BF16, "znver4"), (List{wide, dot}));
  EXPECT_EQ(chains(ElementType::F16, "znver4"), List{wide});
  EXPECT_EQ(chains(ElementType::BF16, "sapphirerapids"), (List{wide, dot, amx}));
  EXPECT_EQ(chains(ElementType::F16, "graniterapids"), (List{wide, "6 chains of AMX products of 16 x 32 f16"}));
  EXPECT_EQ(chains(ElementType::BF16, "neoverse-n1"), List{"28 chains of f32 fma in 4 lanes"});
  EXPECT_EQ(chains(ElementType::BF16, "neoverse-n2"),
            (List{"28 chains of f32 fma in 4 lanes", "28 chains of bf16 products of 2 x 4 and 4 x 2 in 4 lanes"}));
  EXPECT_EQ(chains(ElementType::BF16, "neoverse-v1"),
            (List{"28 chains of f32 fma in 8 lanes", "28 chains of bf16 products of 2 x 4 and 4 x 2 in 8 lanes"}));
  EXPECT_THROW(peakLoops(ElementType::I32, "host"), std::runtime_error);
}

TEST(Roof, LoopsDoTheArithmeticTheyCount) {
  // Each chain is left with what its turns make of the fill: the compiler has kept every one of them, and every turn.
  const float fill = [] {
    float value;
    std::memcpy(&value, &peakFill, 4);
    return value;
  }();
  const CpuFacts facts = cpuFacts("host");
  for (const ElementType type : {ElementType::F32, ElementType::BF16}) {
    for (const PeakLoop &loop : peakLoops(type, "host")) {
      if (loop.entry == "weft_peak_amx_bf16") continue;  // its sums stay in the tiles
      alignas(64) static uint32_t scratch[peakScratchBytes / 4];
      std::fill(std::begin(scratch), std::end(scratch), peakFill);
      const bool dot = loop.entry == "weft_peak_dot";
      const int lanes = dot ? 16 : facts.lanes, counted = facts.registers - 4;
      // Four steps of each chain a turn.
      EXPECT_EQ(loop.flopsPerTurn, 4.0 * counted * lanes * (dot ? 4 : 2)) << loop.chain;
      cpu::loadObject(loop.code, loop.entry)(nullptr, 10, 13, scratch);
      float want = fill;
      for (int step = 0; step < 12; ++step) want = dot ? want + 0.5f : std::fma(want, fill, fill);
      for (int chain = 0; chain < counted; ++chain)
        for (int lane = 0; lane < lanes; ++lane) {
          float got;
          std::memcpy(&got, &scratch[32 + 16 * chain + lane], 4);
          EXPECT_NEAR(got, want, 1e-4) << loop.chain << ", chain " << chain;
        }
    }
  }
}

TEST(Roof, ACpuHasOneAndKeepsIt) {
  const auto f32 = arithmeticRoof({}, ElementType::F32, 1), bf16 = arithmeticRoof({}, ElementType::BF16, 1);
  ASSERT_TRUE(f32 && bf16);
  EXPECT_GT(f32->rate, 1e8);
  EXPECT_NE(f32->of.find("on 1 thread, measured"), std::string::npos) << f32->of;
  EXPECT_EQ(arithmeticRoof({}, ElementType::F32, 1)->rate, f32->rate) << "known to the process";
  EXPECT_GE(arithmeticRoofAgain({}, ElementType::F32, 1)->rate, f32->rate) << "the higher of both";
  EXPECT_FALSE(arithmeticRoof({Device::Kind::PtxEmulator, 0}, ElementType::F32, 1));
}

TEST(Roof, GpusAreKnownByTheirWholeNames) {
  using cuda::dataSheet;
  for (const auto &[name, bf16] : std::vector<std::pair<std::string, double>>{{"NVIDIA H100 80GB HBM3", 989.4},
                                                                              {"NVIDIA H100 PCIe", 756},
                                                                              {"NVIDIA H200", 989.4},
                                                                              {"NVIDIA A100-SXM4-80GB", 312},
                                                                              {"NVIDIA L4", 121},
                                                                              {"NVIDIA GeForce RTX 4090", 165.2}}) {
    ASSERT_NE(dataSheet(name), nullptr) << name;
    EXPECT_EQ(dataSheet(name)->bf16, bf16) << name;
  }
  for (const char *name : {"NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA L4000", "NVIDIA", "", "Quadro P4000"})
    EXPECT_EQ(dataSheet(name), nullptr) << name;
}

}  // namespace
}  // namespace weft
