// The PTX emulator on small programs: known results, and a planted bug of every kind it reports.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "runtime/ptx_emulator/emulator.h"
#include "runtime/ptx_emulator/numbers.h"

namespace weft::ptx {
namespace {

/// A kernel `t` with one pointer parameter, in %rd1, the thread in %r1 and 4 times it in %rd2.
std::string kernel(const std::string &body, int threads = 32) {
  return ".version 7.0\n.target sm_80\n.address_size 64\n.extern .shared .align 16 .b8 smem[];\n.visible .entry "
         "t(\n.param .b64 t_0\n)\n.reqntid " +
         std::to_string(threads) +
         "\n{\n.reg .pred %p<9>;\n.reg .b16 %rs<9>;\n.reg .b32 %r<40>;\n.reg .b64 %rd<20>;\nld.param.b64 %rd1, "
         "[t_0];\nmov.u32 %r1, %tid.x;\n" +
         "mul.wide.u32 %rd2, %r1, 4;\nadd.s64 %rd3, %rd1, %rd2;\ncvt.u32.u64 %r2, %rd2;\n" + body + "\nret;\n}\n";
}

struct Memory {
  alignas(64) std::array<uint32_t, 256> words{};
};

Report run(const std::string &text, Memory &memory, int threads = 32, int64_t sharedBytes = 1024) {
  Module module(text);
  Launch launch;
  launch.threads = threads;
  launch.sharedBytes = sharedBytes;
  launch.memory = {{reinterpret_cast<uint64_t>(memory.words.data()), sizeof memory.words}};
  const uint64_t pointer = launch.memory[0].begin;
  launch.parameters.resize(8);
  std::memcpy(launch.parameters.data(), &pointer, 8);
  return module.run("t", launch);
}

std::string errorOf(const std::string &body, int threads = 32) {
  Memory memory;
  try {
    run(kernel(body, threads), memory, threads);
  } catch (const std::exception &error) {
    return error.what();
  }
  return "";
}

/// `instruction` computes %r5 from %r3 and %r4.
uint32_t compute(const std::string &instruction, uint32_t x, uint32_t y = 0, uint32_t z = 0) {
  Memory memory;
  run(kernel("mov.b32 %r3, " + std::to_string(x) + ";\nmov.b32 %r4, " + std::to_string(y) + ";\nmov.b32 %r6, " +
             std::to_string(z) + ";\n" + instruction + "\nst.global.b32 [%rd3], %r5;"),
      memory);
  return memory.words[7];
}
uint32_t bits(float value) { return static_cast<uint32_t>(asBits(value)); }

TEST(Emulator, integers) {
  EXPECT_EQ(compute("sub.s32 %r5, %r3, %r4;", 3, 5), static_cast<uint32_t>(-2));
  EXPECT_EQ(compute("mad.lo.s32 %r5, %r3, %r4, %r6;", 7, 6, 5), 47u);
  EXPECT_EQ(compute("shr.s32 %r5, %r3, 4;", 0x80000000u), 0xF8000000u);
  EXPECT_EQ(compute("shr.u32 %r5, %r3, 4;", 0x80000000u), 0x08000000u);
  EXPECT_EQ(compute("bfe.u32 %r5, %r3, 4, 8;", 0x12345678), 0x67u);
  EXPECT_EQ(compute("max.s32 %r5, %r3, %r4;", static_cast<uint32_t>(-3), 2), 2u);
  EXPECT_EQ(compute("min.u32 %r5, %r3, %r4;", static_cast<uint32_t>(-3), 2), 2u);
  EXPECT_EQ(compute("setp.lt.s32 %p1, %r3, %r4;\nselp.b32 %r5, 10, 20, %p1;", static_cast<uint32_t>(-3), 2), 10u);
}

TEST(Emulator, countsUpToABound) {
  Memory memory;
  run(kernel("atom.relaxed.gpu.global.inc.u32 %r5, [%rd1], 9;\nst.global.b32 [%rd3+128], %r5;"), memory);
  // 32 threads from 0 to 9, again and again; each sees a count of its own.
  EXPECT_EQ(memory.words[0], 2u);
  std::array<int, 10> seen{};
  for (int at = 32; at < 64; ++at) {
    ASSERT_LE(memory.words[at], 9u);
    ++seen[memory.words[at]];
  }
  EXPECT_EQ(seen, (std::array{4, 4, 3, 3, 3, 3, 3, 3, 3, 3}));
}

TEST(Emulator, roundsEachInstruction) {
  const float third = 1.0f / 3, big = 16777216.0f;
  EXPECT_EQ(compute("fma.rn.f32 %r5, %r3, %r4, %r6;", bits(third), bits(3.0f), bits(-1.0f)),
            bits(std::fmaf(third, 3.0f, -1.0f)));
  EXPECT_EQ(compute("add.rn.f32 %r5, %r3, %r4;", bits(big), bits(1.0f)), bits(big));
  EXPECT_EQ(compute("cvt.rna.tf32.f32 %r5, %r3;", 0x3F801000u), 0x3F802000u);  // half way: away from zero
  EXPECT_EQ(compute("cvt.rn.bf16x2.f32 %r5, %r3, %r4;", 0x3F808000u, 0x3F818000u), 0x3F803F82u);  // half way: to even
  EXPECT_EQ(compute("cvt.rn.f16x2.f32 %r5, %r3, %r4;", bits(65504.0f), bits(6e-8f)), 0x7BFF0001u);
  EXPECT_EQ(compute("cvt.rni.f32.f32 %r5, %r3;", bits(2.5f)), bits(2.0f));
  EXPECT_EQ(compute("cvt.rzi.s32.f32 %r5, %r3;", bits(-3e9f)), 0x80000000u);
  EXPECT_EQ(compute("ex2.approx.f32 %r5, %r3;", bits(10.0f)), bits(1024.0f));
  EXPECT_EQ(compute("max.f32 %r5, %r3, %r4;", bits(NAN), bits(2.0f)), bits(2.0f));
  EXPECT_EQ(compute("max.NaN.f32 %r5, %r3, %r4;", bits(NAN), bits(2.0f)), 0x7FFFFFFFu);
  EXPECT_EQ(compute("min.relu.s32 %r5, %r3, %r4;", 7, 5), 5u);
  EXPECT_EQ(compute("min.relu.s32 %r5, %r3, %r4;", 7, -5), 0u);
  EXPECT_EQ(compute("max.relu.s32 %r5, %r3, %r4;", -7, -5), 0u);
}

TEST(Emulator, divergentLanesMeetAgain) {
  // Odd lanes take the far way; the shuffle after the join needs all of them.
  Memory memory;
  run(kernel("and.b32 %r3, %r1, 1;\nsetp.eq.b32 %p1, %r3, 1;\nmov.b32 %r4, 100;\n@%p1 bra $FAR;\nbra.uni "
             "$NEAR;\n$BACK:\nadd.s32 %r4, %r4, 1;\n"
             "bra.uni $JOIN;\n$NEAR:\nadd.s32 %r4, %r4, 10;\n$JOIN:\nshfl.sync.bfly.b32 %r5, %r4, 1, 31, "
             "-1;\nst.global.b32 [%rd3], %r5;\nret;\n"
             "$FAR:\nbra.uni $BACK;"),
      memory);
  for (int lane = 0; lane < 32; ++lane) EXPECT_EQ(memory.words[lane], lane % 2 ? 110u : 101u);
}

TEST(Emulator, loopsOfDifferentLengths) {
  Memory memory;
  run(kernel("mov.b32 %r3, 0;\nmov.b32 %r4, 0;\n$LOOP:\nadd.s32 %r4, %r4, %r3;\nadd.s32 %r3, %r3, 1;\nsetp.le.s32 %p1, "
             "%r3, %r1;\n@%p1 bra $LOOP;\n"
             "st.global.b32 [%rd3], %r4;"),
      memory);
  for (uint32_t lane = 0; lane < 32; ++lane) EXPECT_EQ(memory.words[lane], lane * (lane + 1) / 2);
}

TEST(Emulator, ldmatrixAndMmaFragments) {
  // C = A B with A[r][k] = r + k / 16 and B = the first 8 columns of the identity: C is the left half of A.
  Memory memory;
  for (int r = 0; r < 16; ++r)
    for (int k = 0; k < 16; k += 2)
      memory.words[r * 8 + k / 2] = static_cast<uint32_t>(toF16(r + k / 16.0f) | toF16(r + (k + 1) / 16.0f) << 16);
  std::string body;
  for (int part = 0; part < 4; ++part)  // 128 words to shared memory
    body += "ld.global.b32 %r3, [%rd3+" + std::to_string(128 * part) + "];\nst.shared.b32 [%r2+" +
            std::to_string(128 * part) + "], %r3;\n";
  body +=
      "bar.sync 0;\nand.b32 %r4, %r1, 15;\nshl.b32 %r4, %r4, 5;\nand.b32 %r5, %r1, 16;\nadd.s32 %r4, %r4, %r5;\n"
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r10, %r11, %r12, %r13}, [%r4];\n"
      // B: lane (g, t) holds rows 2t, 2t + 1 (and 8 more) of column g: 1 where they are g.
      "shr.u32 %r6, %r1, 2;\nand.b32 %r7, %r1, 3;\nshl.b32 %r7, %r7, 1;\nsetp.eq.b32 %p1, %r7, %r6;\nadd.s32 %r8, %r7, "
      "1;\nsetp.eq.b32 %p2, %r8, %r6;\n"
      "selp.b32 %r14, 15360, 0, %p1;\nselp.b32 %r15, 1006632960, 0, %p2;\nor.b32 %r14, %r14, %r15;\nmov.b32 %r15, "
      "0;\nmov.b32 %r16, 0f00000000;\n"
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r20, %r21, %r22, %r23}, {%r10, %r11, %r12, %r13}, {%r14, "
      "%r15}, {%r16, %r16, %r16, %r16};\n"
      "shl.b32 %r9, %r1, 4;\ncvt.u64.u32 %rd4, %r9;\nadd.s64 %rd5, %rd1, %rd4;\n";
  for (int at = 0; at < 4; ++at)
    body += "st.global.b32 [%rd5+" + std::to_string(4 * at) + "], %r" + std::to_string(20 + at) + ";\n";
  const Report report = run(kernel(body), memory);
  EXPECT_EQ(report.mma, 1);
  for (int lane = 0; lane < 32; ++lane)
    for (int at = 0; at < 4; ++at) {
      const int row = lane / 4 + 8 * (at / 2), column = lane % 4 * 2 + at % 2;
      EXPECT_EQ(memory.words[lane * 4 + at], bits(row + column / 16.0f)) << lane << " " << at;
    }
}

TEST(Emulator, cpAsyncArrivesWhenWaitedFor) {
  Memory memory;
  for (uint32_t at = 0; at < 128; ++at) memory.words[at] = at;
  const std::string copy =
      "mul.wide.u32 %rd4, %r1, 16;\nadd.s64 %rd5, %rd1, %rd4;\ncvt.u32.u64 %r3, %rd4;\n"
      "cp.async.cg.shared.global [%r3], [%rd5], 16;\ncp.async.commit_group;\n";
  const std::string read = "bar.sync 0;\nld.shared.b32 %r4, [%r2];\nst.global.b32 [%rd3+512], %r4;\n";
  run(kernel(copy + "cp.async.wait_group 0;\n" + read), memory);
  for (uint32_t at = 0; at < 32; ++at) EXPECT_EQ(memory.words[128 + at], at);
  EXPECT_NE(errorOf(copy + read + "cp.async.wait_group 0;\n").find("has not delivered"), std::string::npos);
  EXPECT_NE(errorOf(copy + "cp.async.wait_group 1;\n" + read).find("has not delivered"), std::string::npos);
  EXPECT_NE(errorOf(copy).find("without waiting"), std::string::npos);
}

TEST(Emulator, countsBankConflicts) {
  Memory memory;
  const std::string fill = "mov.b32 %r3, 1;\nst.shared.b32 [%r2], %r3;\nst.shared.b32 [%r2+128], %r3;\n";
  EXPECT_EQ(run(kernel(fill), memory).bankConflicts, 0);
  // Every second word: two words a bank.
  EXPECT_EQ(run(kernel(fill + "shl.b32 %r4, %r2, 1;\nld.shared.b32 %r5, [%r4];"), memory).bankConflicts, 1);
  // One word for all: a broadcast.
  EXPECT_EQ(run(kernel(fill + "mov.b32 %r4, 0;\nld.shared.b32 %r5, [%r4];"), memory).bankConflicts, 0);
}

TEST(Emulator, vectorsOfSums) {
  Memory memory;
  const std::string sums =
      "mov.b32 %r3, 0f3F800000;\nmov.b32 %r4, 0f40000000;\nred.relaxed.gpu.global.add.v2.f32 [%rd1], {%r3, %r4};\n"
      "red.relaxed.gpu.global.add.v4.f32 [%rd1+16], {%r3, %r4, %r3, %r4};";
  auto run90 = [&](const std::string &body) {
    Module module(kernel(body));
    Launch launch;
    launch.threads = 32;
    launch.capability = 90;
    launch.memory = {{reinterpret_cast<uint64_t>(memory.words.data()), sizeof memory.words}};
    launch.parameters.resize(8);
    std::memcpy(launch.parameters.data(), &launch.memory[0].begin, 8);
    module.run("t", launch);
  };
  run90(sums);
  for (const auto &[word, sum] : {std::pair{0, 32}, {1, 64}, {2, 0}, {4, 32}, {5, 64}, {6, 32}, {7, 64}})
    EXPECT_EQ(memory.words[word], bits(static_cast<float>(sum))) << word;
  EXPECT_NE(errorOf(sums).find("sm_90"), std::string::npos);
  EXPECT_THROW(run90("red.relaxed.gpu.global.add.v2.f32 [%rd1+4], {%r1, %r1};"), std::runtime_error);
}

TEST(Emulator, reportsPlantedBugs) {
  const struct {
    const char *body, *message;
    int threads;
  } bugs[] = {
      {"st.global.b32 [%rd3+4096], %r1;", "outside all buffers", 32},
      {"ld.global.b32 %r3, [%rd3+-4];", "outside all buffers", 32},
      {"st.global.b64 [%rd3+4], %rd1;", "misaligned access of 8 bytes", 32},
      {"st.shared.b32 [%r2+1020], %r1;", "outside shared memory of 1024 bytes", 32},
      {"st.shared.b32 [%r2+2], %r1;", "misaligned access of 4 bytes at shared", 32},
      {"ld.shared.b32 %r3, [%r2];", "never written", 32},
      {"add.s32 %r3, %r4, 1;", "register %r4, which was never written", 32},
      {"xor.b32 %r4, %r2, 128;\nst.shared.b32 [%r2], %r1;\nld.shared.b32 %r3, [%r4];", "never written", 64},
      {"xor.b32 %r4, %r2, 128;\nst.shared.b32 [%r2], %r1;\nbar.sync 0;\nld.shared.b32 %r3, [%r4];\nst.shared.b32 "
       "[%r2], %r3;",
       "race: warp 0 wrote", 64},
      {"xor.b32 %r4, %r2, 128;\nst.shared.b32 [%r2], %r1;\nbar.sync 0;\nsetp.lt.u32 %p1, %r1, 32;\n@%p1 ld.shared.b32 "
       "%r3, [%r4];\n@!%p1 st.shared.b32 [%r2], %r1;",
       "race: another warp reads", 64},
      {"and.b32 %r4, %r2, 127;\nst.shared.b32 [%r4], %r1;", "race: warp 0 too wrote", 64},
      {"mov.b32 %r4, 0;\nst.shared.b32 [%r4], %r1;", "race: two threads of the warp", 32},
      {"setp.lt.u32 %p1, %r1, 16;\n@%p1 bra $SKIP;\nbar.sync 0;\n$SKIP:", "only part of the warp reaches this", 32},
      {"setp.lt.u32 %p1, %r1, 32;\n@%p1 bra $SKIP;\nbar.sync 0;\n$SKIP:", "deadlock", 64},
      {"setp.lt.u32 %p1, %r1, 16;\n@%p1 bra.uni $SKIP;\n$SKIP:", "only part of the lanes takes", 32},
      {"setp.lt.u32 %p1, %r1, 16;\n@%p1 shfl.sync.bfly.b32 %r3, %r1, 1, 31, -1;", "only part of the warp", 32},
  };
  for (const auto &bug : bugs) {
    const std::string error = errorOf(bug.body, bug.threads);
    EXPECT_NE(error.find(bug.message), std::string::npos) << bug.body << "\n" << error;
    EXPECT_NE(error.find("in t: line"), std::string::npos) << error;
    EXPECT_NE(error.find("thread"), std::string::npos) << error;
  }
}

TEST(Emulator, namesUnknownInstructions) {
  const std::string error = errorOf("cos.rz.f32 %r3, %r1;");
  EXPECT_NE(error.find("unknown instruction cos.rz.f32"), std::string::npos) << error;
  EXPECT_NE(error.find("line 19"), std::string::npos) << error;
  EXPECT_NE(errorOf("bra $NOWHERE;").find("$NOWHERE"), std::string::npos);
  EXPECT_NE(errorOf("add.s32 %r3, %q7, 1;").find("unknown register %q7"), std::string::npos);
}

}  // namespace
}  // namespace weft::ptx
