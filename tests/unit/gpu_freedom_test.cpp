// What a GPU may do and the emulator does by its seed: the order of warps, the time of copies, the error of
// approximations and of tensor cores; and the mistakes that only show where it does.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <set>

#include "runtime/ptx_emulator/approximations.h"
#include "runtime/ptx_emulator/emulator.h"
#include "runtime/ptx_emulator/numbers.h"

namespace weft::ptx {
namespace {

struct Run {
  int threads = 32;
  int64_t blocks = 1;
  uint64_t seed = 0;
  int capability = 80;
};

/// 256 words that start as they count, %rd1 points at them; %r1 is the thread, %r2 and %rd3 its own place in shared and
/// global memory, %r9 the block.
std::array<uint32_t, 256> execute(const std::string &body, const Run &how, std::string *error = nullptr) {
  const Module module(
      ".version 7.0\n.target sm_80\n.address_size 64\n.extern .shared .align 16 .b8 smem[];\n.visible .entry "
      "t(\n.param .b64 t_0\n)\n{\n.reg .pred %p<9>;\n.reg .b16 %rs<9>;\n"
      ".reg .b32 %r<40>;\n.reg .b64 %rd<20>;\nld.param.b64 %rd1, [t_0];\nmov.u32 %r1, %tid.x;\nmul.wide.u32 %rd2, %r1, "
      "4;\nadd.s64 %rd3, %rd1, %rd2;\ncvt.u32.u64 %r2, %rd2;\n"
      "mov.u32 %r9, %ctaid.x;\n" +
      body + "\nret;\n}\n");
  alignas(64) std::array<uint32_t, 256> words;
  for (uint32_t at = 0; at < words.size(); ++at) words[at] = at;
  Launch launch;
  launch.threads = how.threads;
  launch.blocks = how.blocks;
  launch.seed = how.seed;
  launch.capability = how.capability;
  launch.sharedBytes = 2048;
  launch.memory = {{reinterpret_cast<uint64_t>(words.data()), sizeof words}};
  launch.parameters.resize(8);
  std::memcpy(launch.parameters.data(), &launch.memory[0].begin, 8);
  try {
    module.run("t", launch);
    if (error) error->clear();
  } catch (const std::exception &caught) {
    if (!error) throw;
    *error = caught.what();
  }
  return words;
}
std::string errorOf(const std::string &body, const Run &how) {
  std::string error;
  execute(body, how, &error);
  return error;
}
std::string number(float value) { return std::to_string(asBits(value)); }

/// c + 8 times a b at place 0 of the result: row 0 of A and column 0 of B are filled in their first eight places.
float product(const std::string &kind, int width, float a, float b, float c, const Run &how) {
  auto bits = [&](float value) -> uint64_t {
    const uint64_t one = kind == "bf16" ? toBf16(value) : kind == "f16" ? toF16(value) : asBits(value);
    return width == 2 ? one | one << 16 : one;
  };
  // Lanes 0 to 3 hold k = 0 .. 7 of row 0 (halves: two a register; tf32: 0 .. 3, and 4 .. 7 in the third).
  const std::string shape = width == 2 ? "m16n8k16" : "m16n8k8";
  const std::string other = width == 2 ? "0" : std::to_string(bits(a)),
                    otherB = width == 2 ? "0" : std::to_string(bits(b));
  const auto words = execute("mov.b32 %r3, " + std::to_string(bits(a)) + ";\nmov.b32 %r4, " + std::to_string(bits(b)) +
                                 ";\nmov.b32 %r5, " + other + ";\nmov.b32 %r6, " + otherB + ";\nmov.b32 %r7, " +
                                 number(c) + ";\nmma.sync.aligned." + shape + ".row.col.f32." + kind + "." + kind +
                                 ".f32 {%r10, %r11, %r12, %r13}, {%r3, 0, %r5, 0}, {%r4, %r6}, {%r7, %r7, %r7, "
                                 "%r7};\nst.global.b32 [%rd3], %r10;",
                             how);
  return asFloat(words[0]);
}

/// An infinity in one column is none of the others': of each, the sum of 1 and 8 times 2^-25 is cut off.
TEST(GpuFreedom, infinitiesKeepToTheirColumn) {
  // Columns are lanes / 4 of B: column 3 is infinite in k = 8 .. 15, the second block.
  const auto words = execute("mov.b32 %r3, " + std::to_string(toBf16(0x1p-12f) * 65537) + ";\nmov.b32 %r4, " +
                                 std::to_string(toBf16(0x1p-13f) * 65537) +
                                 ";\nshr.u32 %r5, %r1, 2;\nsetp.eq.b32 %p1, %r5, 3;\n"
                                 "selp.b32 %r6, " +
                                 std::to_string(toBf16(INFINITY) * 65537) +
                                 ", %r4, %p1;\nmov.b32 %r7, 0f3F800000;\n"
                                 "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r10, %r11, %r12, %r13}, {%r3, "
                                 "%r3, %r3, %r3}, {%r4, %r6}, {%r7, %r7, %r7, %r7};\n"
                                 "st.global.b32 [%rd3], %r10;\nst.global.b32 [%rd3+128], %r11;",
                             {32, 1, 1});
  for (uint32_t lane = 0; lane < 32; ++lane)
    for (uint32_t at : {0, 1})
      EXPECT_EQ(asFloat(words[32 * at + lane]), lane % 4 * 2 + at == 3 ? INFINITY : 1.0f) << lane << " " << at;
}

TEST(GpuFreedom, tensorCoresCutOff) {
  const struct {
    const char *kind;
    int width;
  } kinds[] = {{"bf16", 2}, {"f16", 2}, {"tf32", 4}};
  for (const auto &[kind, width] : kinds) {
    // Eight products of 2^-25 beside 1: all, none (one bit below a float's is kept), all (two bits).
    EXPECT_EQ(product(kind, width, 0x1p-12f, 0x1p-13f, 1, {}), 1 + 0x1p-22f) << kind;
    EXPECT_EQ(product(kind, width, 0x1p-12f, 0x1p-13f, 1, {32, 1, 1, 80}), 1) << kind;
    EXPECT_EQ(product(kind, width, 0x1p-12f, 0x1p-13f, 1, {32, 1, 1, 90}), 1 + 0x1p-22f) << kind;
    // A sum is cut off, not rounded: 1 + 8 * 2^-26 * 1.5 on the one that keeps 2^-25 has nothing left but zeros; of a
    // negative one the magnitude is cut.
    EXPECT_EQ(product(kind, width, 0x1.8p-12f, 0x1p-12f, 1, {}), 1 + 0x1.8p-21f) << kind;
    EXPECT_EQ(product(kind, width, -0x1.8p-12f, 0x1p-12f, -1, {32, 1, 1, 80}), -1 - 0x1p-21f) << kind;
    // Nothing is lost where all fits.
    EXPECT_EQ(product(kind, width, 3, 0.5f, 0.25f, {32, 1, 1, 80}), 12.25f) << kind;
    EXPECT_TRUE(std::isnan(product(kind, width, INFINITY, 0, 1, {32, 1, 1, 80}))) << kind;
    EXPECT_EQ(product(kind, width, INFINITY, -1, 1, {32, 1, 1, 80}), -INFINITY) << kind;
    EXPECT_EQ(product(kind, width, 0, 0, 0x1p-149f, {32, 1, 1, 80}), 0x1p-149f) << kind;
  }
}

TEST(GpuFreedom, approximationsKeepTheirBounds) {
  const struct {
    Approximation function;
    const char *name;
    double (*exact)(double);
    float low, high;
    double ulps, relative, absolute;
  } functions[] = {
      {Approximation::Ex2, "ex2", [](double x) { return std::exp2(x); }, -120, 120, 2.06, 0, 0},
      {Approximation::Lg2, "lg2", [](double x) { return std::log2(x); }, 0.501f, 1.99f, 0, 0, 0x1p-22},
      {Approximation::Lg2, "lg2", [](double x) { return std::log2(x); }, 2, 1e30f, 0, 0x1p-22, 0},
      {Approximation::Rcp, "rcp", [](double x) { return 1 / x; }, 1e-20f, 1e20f, 1, 0, 0},
      {Approximation::Rsqrt, "rsqrt", [](double x) { return 1 / std::sqrt(x); }, 1e-20f, 1e20f, 0, std::exp2(-22.9), 0},
      {Approximation::Sqrt, "sqrt", [](double x) { return std::sqrt(x); }, 1e-20f, 1e20f, 0, 0x1p-23, 0},
      {Approximation::Sin, "sin", [](double x) { return std::sin(x); }, -6.28f, 6.28f, 0, 0, 0x1.7dp-21},
      {Approximation::Cos, "cos", [](double x) { return std::cos(x); }, -6.28f, 6.28f, 0, 0, 0x1.7dp-21},
      {Approximation::Cos, "cos", [](double x) { return std::cos(x); }, -314, 314, 0, 0, std::exp2(-14.7)},
      {Approximation::Tanh, "tanh", [](double x) { return std::tanh(x); }, -4, 4, 0, 0x1p-11, 0},
  };
  for (const auto &own : functions) {
    int off = 0, changed = 0;
    double worst = 0;
    const int count = 2000;
    for (int at = 0; at < count; ++at) {
      const double share = (at + 0.5) / count;
      const float x = static_cast<float>(own.low > 0 && own.high > 100 * own.low
                                             ? own.low * std::pow(static_cast<double>(own.high) / own.low, share)
                                             : own.low + share * (own.high - own.low));
      const double exact = own.exact(x);
      const float value = approximated(own.function, x, false, 1);
      const double bound =
          std::max({own.ulps * std::ldexp(1.0, std::ilogb(exact) - 23), own.relative * std::fabs(exact), own.absolute});
      EXPECT_LE(std::fabs(value - exact), bound * (1 + 1e-12)) << own.name << " of " << x;
      worst = std::max(worst, std::fabs(value - exact) / bound);
      EXPECT_EQ(value, approximated(own.function, x, false, 1));
      EXPECT_EQ(approximated(own.function, x, false, 0), static_cast<float>(exact)) << own.name << " of " << x;
      off += value != static_cast<float>(exact);
      changed += value != approximated(own.function, x, false, 2);
    }
    EXPECT_GT(off, count / 10) << own.name;
    EXPECT_GT(changed, count / 10) << own.name;
    EXPECT_GT(worst, 0.7) << own.name;
  }
  EXPECT_EQ(approximated(Approximation::Ex2, -INFINITY, false, 1), 0);
  EXPECT_EQ(approximated(Approximation::Ex2, 0, false, 1), 1);
  EXPECT_EQ(approximated(Approximation::Rcp, 0, false, 1), INFINITY);
  EXPECT_EQ(approximated(Approximation::Lg2, 0, false, 1), -INFINITY);
  EXPECT_TRUE(std::isnan(approximated(Approximation::Lg2, -1, false, 1)));
  EXPECT_EQ(approximateQuotient(1, 0x1.8p126f, false, 1), 0);  // its reciprocal is flushed
  for (int at = 1; at < 1000; ++at)
    EXPECT_LE(std::fabs(approximateQuotient(1.0f, static_cast<float>(at), false, 1) - 1.0 / at),
              2 * std::ldexp(1.0, std::ilogb(1.0 / at) - 23));
}

TEST(GpuFreedom, flushesWhereToldTo) {
  auto compute = [](const std::string &instruction, float x, float y) {
    return execute("mov.b32 %r3, " + number(x) + ";\nmov.b32 %r4, " + number(y) + ";\n" + instruction +
                       "\nst.global.b32 [%rd3], %r5;",
                   {})[0];
  };
  EXPECT_EQ(compute("mul.rn.f32 %r5, %r3, %r4;", 0x1p-100f, 0x1p-40f), asBits(0x1p-140f));
  EXPECT_EQ(compute("mul.rn.ftz.f32 %r5, %r3, %r4;", -0x1p-100f, 0x1p-40f), asBits(-0.0f));
  EXPECT_EQ(compute("add.rn.ftz.f32 %r5, %r3, %r4;", 0x1p-140f, 0x1p-140f), 0u);
  EXPECT_EQ(compute("fma.rn.ftz.f32 %r5, %r3, %r4, %r3;", 0x1p-140f, 0x1p100f), 0u);
  EXPECT_EQ(compute("ex2.approx.f32 %r5, %r3;", -140, 0), asBits(0x1p-140f));
  EXPECT_EQ(compute("ex2.approx.ftz.f32 %r5, %r3;", -140, 0), 0u);
  EXPECT_EQ(compute("rcp.approx.ftz.f32 %r5, %r3;", 0x1p-140f, 0), asBits(INFINITY));
  EXPECT_EQ(compute("setp.gt.ftz.f32 %p1, %r3, %r4;\nselp.b32 %r5, 1, 2, %p1;", 0x1p-140f, 0), 2u);
}

TEST(GpuFreedom, warpsTakeTurns) {
  // Without a barrier the last to write a word is any of them.
  std::set<uint32_t> last;
  for (uint64_t seed = 0; seed < 40; ++seed)
    last.insert(
        execute("mov.b32 %r3, 0;\n$L:\nadd.s32 %r3, %r3, 1;\nsetp.lt.u32 %p1, %r3, 300;\n@%p1 bra $L;\nshr.u32 %r4, "
                "%r1, 5;\nst.global.b32 [%rd1], %r4;",
                {96, 1, seed})[0]);
  EXPECT_EQ(last, (std::set<uint32_t>{0, 1, 2}));
  // With one nothing hangs on turns.
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const auto words = execute(
        "xor.b32 %r4, %r2, 128;\nst.shared.b32 [%r2], %r1;\nbar.sync 0;\nld.shared.b32 %r3, [%r4];\nst.global.b32 "
        "[%rd3], %r3;",
        {64, 1, seed});
    for (uint32_t at = 0; at < 64; ++at) EXPECT_EQ(words[at], at ^ 32);
  }
}

const std::string copy =
    "mul.wide.u32 %rd4, %r1, 16;\nadd.s64 %rd5, %rd1, %rd4;\ncvt.u32.u64 %r3, %rd4;\ncp.async.cg.shared.global [%r3], "
    "[%rd5], 16;\ncp.async.commit_group;\n";

TEST(GpuFreedom, copiesAreSeenByTheirOwnThreadAlone) {
  const std::string wait = "cp.async.wait_group 0;\n", own = "ld.shared.b32 %r4, [%r3];\n",
                    neighbours = "xor.b32 %r5, %r3, 16;\nld.shared.b32 %r4, [%r5];\n";
  for (uint64_t seed : {0, 1}) {
    EXPECT_EQ(errorOf(copy + wait + own, {32, 1, seed}), "");
    EXPECT_NE(errorOf(copy + wait + neighbours, {32, 1, seed}).find("to that thread alone"), std::string::npos);
    EXPECT_EQ(errorOf(copy + wait + "bar.warp.sync -1;\n" + neighbours, {32, 1, seed}), "");
    EXPECT_EQ(errorOf(copy + wait + "bar.sync 0;\n" + neighbours, {32, 1, seed}), "");
    // Of another warp.
    const std::string far = "xor.b32 %r5, %r3, 512;\nld.shared.b32 %r4, [%r5];\n";
    EXPECT_NE(errorOf(copy + wait + "bar.warp.sync -1;\n" + far, {64, 1, seed}), "");
    EXPECT_EQ(errorOf(copy + wait + "bar.sync 0;\n" + far, {64, 1, seed}), "");
  }
}

TEST(GpuFreedom, copiesReadTheirSourceWhenTheyLike) {
  const std::string change = "st.global.b32 [%rd5], 999;\n",
                    finish = "cp.async.wait_group 0;\nld.shared.b32 %r4, [%r3];\nst.global.b32 [%rd3+768], %r4;\n";
  const auto inOrder = execute(copy + change + finish, {32, 1, 0});
  for (uint32_t at = 0; at < 32; ++at) EXPECT_EQ(inOrder[192 + at], 4 * at);
  const auto words = execute(copy + change + finish, {32, 1, 1});
  int early = 0, late = 0;
  for (uint32_t at = 0; at < 32; ++at) (words[192 + at] == 999 ? late : early) += 1;
  EXPECT_GT(early, 4);
  EXPECT_GT(late, 4);
  EXPECT_EQ(words, execute(copy + change + finish, {32, 1, 1}));  // the same for the same seed
}

TEST(GpuFreedom, blocksRaceInGlobalMemory) {
  const struct {
    const char *body;
    const char *message;
  } programs[] = {
      {"setp.eq.b32 %p1, %r1, 0;\n@%p1 st.global.b32 [%rd1+64], %r9;", "race: block 0 writes what this one writes"},
      {"setp.eq.b32 %p1, %r9, 1;\n@%p1 st.global.b32 [%rd3], 7;\n@!%p1 ld.global.b32 %r3, [%rd3];",
       "race: block 0 reads what this one writes"},
      {"setp.eq.b32 %p1, %r9, 0;\n@%p1 st.global.b32 [%rd3], 777;\n@!%p1 ld.global.b32 %r3, [%rd3];",
       "race: block 0 writes what this one reads"},
      {"setp.eq.b32 %p1, %r9, 0;\n@%p1 st.global.b32 [%rd3], 777;\n@!%p1 red.global.add.f32 [%rd3], 0f3F800000;",
       "race: block 0 writes what this one adds to"},
      {"setp.eq.b32 %p1, %r9, 3;\n@%p1 st.global.b32 [%rd3], 777;\n@!%p1 ld.global.b32 %r3, [%rd3];",
       "race: another block reads what this one writes"},
      {"setp.eq.b32 %p1, %r9, 0;\n@%p1 st.global.b32 [%rd3], 777;\n@!%p1 bra $END;\ncp.async.wait_group "
       "0;\n$END:\nmov.b32 %r3, 0;\nmul.wide.u32 %rd4, %r1, 0;\nadd.s64 %rd4, %rd4, %rd1;\nshl.b32 %r3, %r1, 4;\n"
       "cp.async.cg.shared.global [%r3], [%rd4], 16;\ncp.async.commit_group;\ncp.async.wait_group 0;",
       "race: block 0 writes what this one reads"},
      // None: only adding, only reading, what is there already, bytes beside each other, words of one's own.
      {"red.global.add.f32 [%rd3], 0f3F800000;", ""},
      {"ld.global.b32 %r3, [%rd3];", ""},
      {"st.global.b32 [%rd1+4], 1;", ""},
      {"cvt.u64.u32 %rd4, %r9;\nadd.s64 %rd4, %rd4, %rd1;\nadd.s32 %r3, %r9, 100;\ncvt.u16.u32 %rs1, %r3;\nsetp.eq.b32 "
       "%p1, %r1, 0;\n@%p1 st.global.b8 [%rd4], %rs1;\n@%p1 ld.global.b8 %r4, [%rd4];",
       ""},
      {"shl.b32 %r3, %r9, 7;\ncvt.u64.u32 %rd4, %r3;\nadd.s64 %rd4, %rd4, %rd3;\nld.global.b32 %r4, [%rd4];\nadd.s32 "
       "%r4, %r4, 1;\nst.global.b32 [%rd4], %r4;",
       ""},
  };
  for (const auto &program : programs)
    for (uint64_t seed : {0, 1}) {
      const std::string error = errorOf(program.body, {32, 4, seed});
      if (*program.message) EXPECT_NE(error.find(program.message), std::string::npos) << program.body << "\n" << error;
      else EXPECT_EQ(error, "") << program.body;
    }
}

}  // namespace
}  // namespace weft::ptx
