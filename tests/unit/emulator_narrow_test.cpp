// The emulator's numbers of 8 bits, all of them, against the nearest one found by looking at each.
#include <gtest/gtest.h>

#include "runtime/ptx_emulator/narrow_floats.h"
#include "tests/unit/hopper_text.h"

namespace weft::ptx {
namespace {

/// The nearest of all finite codes; of two as near the even one.
uint64_t nearest(float value, const NarrowFloat &format) {
  uint64_t best = 0;
  for (uint64_t code = 0; code < 128; ++code) {
    const double number = fromNarrow(code, format), off = std::fabs(std::fabs(static_cast<double>(value)) - number);
    const double least = std::fabs(std::fabs(static_cast<double>(value)) - fromNarrow(best, format));
    if (std::isfinite(number) && (off < least || (off == least && code % 2 == 0))) best = code;
  }
  return (std::signbit(value) ? 0x80 : 0) | best;
}

TEST(EmulatorNarrow, everyNumber) {
  EXPECT_EQ(fromNarrow(0x38, e4m3), 1.0f);
  EXPECT_EQ(fromNarrow(0x01, e4m3), 0x1p-9f);
  EXPECT_EQ(fromNarrow(0xFE, e4m3), -448.0f);
  EXPECT_TRUE(std::isnan(fromNarrow(0x7F, e4m3)));
  EXPECT_EQ(fromNarrow(0x3C, e5m2), 1.0f);
  EXPECT_EQ(fromNarrow(0x81, e5m2), -0x1p-16f);
  EXPECT_EQ(fromNarrow(0x7B, e5m2), 57344.0f);
  EXPECT_EQ(fromNarrow(0x7C, e5m2), HUGE_VALF);
  for (const NarrowFloat &format : {e4m3, e5m2}) {
    for (uint64_t code = 0; code < 256; ++code)
      if (const float number = fromNarrow(code, format); std::isfinite(number)) {
        EXPECT_EQ(toNarrow(number, format), code);
        for (const float off : {0.999f, 1.001f, 1.03125f, 1.0625f, 1.09375f, 1.125f, 1.2f})
          EXPECT_EQ(toNarrow(number * off, format), nearest(number * off, format)) << number * off;
      }
    EXPECT_EQ(toNarrow(1e30f, format), nearest(format.most, format));
    EXPECT_EQ(toNarrow(-HUGE_VALF, format), nearest(-format.most, format));
    EXPECT_EQ(toNarrow(std::nanf(""), format), 0x7Fu);
    EXPECT_EQ(toNarrow(-0.0f, format), 0x80u);
  }
}

uint32_t compute(const std::string &instructions, float high, float low) {
  HopperMemory memory;
  const std::string floats = "mov.b32 %f1, " + std::to_string(asBits(high)) + ";\nmov.b32 %f2, " +
                             std::to_string(asBits(low)) + ";\ncvt.rn.f16x2.f32 %r5, %f1, %f2;\n";
  runHopper(hopperKernel(floats + instructions + "\nst.global.b32 [%rd3], %r6;", 32), memory, 32, 0);
  return memory.words[0];
}

TEST(EmulatorNarrow, conversions) {
  const std::string widened = ";\ncvt.u32.u16 %r6, %rs1;";
  EXPECT_EQ(compute("cvt.rn.satfinite.e4m3x2.f32 %rs1, %f1, %f2" + widened, 1, -500), 0x38FEu);
  EXPECT_EQ(compute("cvt.rn.satfinite.e5m2x2.f32 %rs1, %f1, %f2" + widened, -1, 0.25f), 0xBC34u);
  EXPECT_EQ(compute("cvt.rn.satfinite.relu.e4m3x2.f32 %rs1, %f1, %f2" + widened, -1, 2), 0x0040u);
  EXPECT_EQ(compute("cvt.rn.satfinite.e4m3x2.f16x2 %rs1, %r5" + widened, 0.5f, 1.0625f), 0x3038u);  // a tie: to even
  EXPECT_EQ(compute("mov.b16 %rs1, 0x38FE;\ncvt.rn.f16x2.e4m3x2 %r6, %rs1;", 0, 0), 0x3C00DF00u);
  EXPECT_EQ(compute("mov.b16 %rs1, 0xBC7C;\ncvt.rn.relu.f16x2.e5m2x2 %r6, %rs1;", 0, 0), 0x00007C00u);
}

TEST(EmulatorNarrow, needsTheArchitecture) {
  Launch launch;
  launch.capability = 86;
  try {
    Module(replaced(hopperKernel("cvt.rn.satfinite.e4m3x2.f32 %rs1, %f1, %f2;", 32), "sm_90a", "sm_80"))
        .run("t", launch);
    FAIL();
  } catch (const std::exception &error) {
    EXPECT_NE(std::string(error.what()).find("has instructions of sm_89, which does not run on sm_86"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace weft::ptx
