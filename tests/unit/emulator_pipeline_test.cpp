// The emulator on a kernel in the form of the fastest on Hopper: a warpgroup that loads tiles into a ring, two that
// multiply them and store the sum. It is right by any seed, and each mistake in it is found.
#include <gtest/gtest.h>

#include "runtime/ptx_emulator/numbers.h"
#include "runtime/tensor_map.h"
#include "tests/unit/hopper_text.h"

namespace weft::ptx {
namespace {

constexpr int tiles = 6, depth = 64 * tiles, threads = 384;

/// Of shared memory: two stages, each 128 x 64 of A and 64 x 64 of B; two tiles of D; mbarriers "full" and "empty".
const std::string stageOf =
    "and.b32 %r21, %r20, 1;\nshr.u32 %r22, %r20, 1;\nand.b32 %r22, %r22, 1;\nshl.b32 %r24, %r21, 3;\nadd.s32 %r25, "
    "%r11, %r24;\nmad.lo.s32 %r26, %r21, 24576, %r10;\n";

std::string producer() {
  return "setmaxnreg.dec.sync.aligned.u32 24;\nsetp.ne.b32 %p4, %r3, 0;\n@%p4 bra $DONE;\nelect.sync _|%p5, "
         "-1;\n@!%p5 bra $DONE;\nmov.b32 %r20, 0;\n$PRODUCE:\n" +
         stageOf + "xor.b32 %r23, %r22, 1;\n" + waitFor("%r25+16", "%r23") +
         "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r25], 24576;\nshl.b32 %r27, %r20, 6;\n"
         "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r26], [%rd10, {%r27, 0}], "
         "[%r25];\ncp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r26+16384], [%rd11, "
         "{%r27, 0}], [%r25];\nadd.s32 %r20, %r20, 1;\nsetp.lt.s32 %p6, %r20, " +
         std::to_string(tiles) + ";\n@%p6 bra $PRODUCE;\nbra $DONE;\n";
}

std::string consumer() {
  std::string sums = "{";
  for (int at = 0; at < 32; ++at) sums += (at ? ", %f" : "%f") + std::to_string(at);
  sums += "}";
  std::string all =
      "setmaxnreg.inc.sync.aligned.u32 240;\nshr.u32 %r30, %r3, 2;\nsub.s32 %r30, %r30, 1;\nshl.b32 %r31, %r30, "
      "13;\nand.b32 %r32, %r1, 127;\nsetp.eq.b32 %p8, %r32, 0;\nmov.b32 %r20, 0;\n$CONSUME:\n" +
      stageOf + waitFor("%r25", "%r22") +
      "wgmma.fence.sync.aligned;\nadd.s32 %r33, %r26, %r31;\nshr.u32 %r33, %r33, 4;\ncvt.u64.u32 %rd20, %r33;\nor.b64 "
      "%rd20, %rd20, 0x4000004000010000;\nadd.s32 %r34, %r26, 16384;\nshr.u32 %r34, %r34, 4;\ncvt.u64.u32 %rd21, "
      "%r34;\nor.b64 %rd21, %rd21, 0x4000004000010000;\nsetp.gt.s32 %p7, %r20, 0;\n";
  for (int block = 0; block < 4; ++block)
    all += "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 " + sums + ", %rd20, %rd21, " + (block ? "1" : "%p7") +
           ", 1, 1, 0, 0;\nadd.s64 %rd20, %rd20, 2;\nadd.s64 %rd21, %rd21, 2;\n";
  all +=
      "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n@%p8 mbarrier.arrive.shared::cta.b64 _, "
      "[%r25+16];\nadd.s32 %r20, %r20, 1;\nsetp.lt.s32 %p6, %r20, " +
      std::to_string(tiles) +
      ";\n@%p6 bra $CONSUME;\nshl.b32 %r40, %r30, 14;\nadd.s32 %r40, %r40, 49152;\nand.b32 %r41, %r3, 3;\nshr.u32 "
      "%r42, %r4, 2;\nmad.lo.s32 %r41, %r41, 16, %r42;\nmad.lo.s32 %r41, %r41, 256, %r40;\nand.b32 %r42, %r4, "
      "3;\nmad.lo.s32 %r41, %r42, 8, %r41;\n";
  for (int at = 0; at < 32; at += 2)
    all += "st.shared.v2.f32 [%r41+" + std::to_string(at / 2 % 2 * 2048 + at / 4 * 32) + "], {%f" + std::to_string(at) +
           ", %f" + std::to_string(at + 1) + "};\n";
  return all +
         "fence.proxy.async.shared::cta;\nadd.s32 %r43, %r30, 1;\nbar.sync %r43, 128;\nshl.b32 %r44, %r30, 6;\n@%p8 "
         "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd12, {0, %r44}], [%r40];\n@%p8 "
         "cp.async.bulk.commit_group;\n@%p8 cp.async.bulk.wait_group.read 0;\n";
}

std::string pipeline() {
  return "mov.b64 %rd10, t_1;\nmov.b64 %rd11, t_2;\nmov.b64 %rd12, t_3;\nmov.b32 %r10, smem;\nadd.s32 %r11, %r10, "
         "81920;\n@%p1 mbarrier.init.shared::cta.b64 [%r11], 1;\n@%p1 mbarrier.init.shared::cta.b64 [%r11+8], 1;\n@%p1 "
         "mbarrier.init.shared::cta.b64 [%r11+16], 2;\n@%p1 mbarrier.init.shared::cta.b64 [%r11+24], "
         "2;\nfence.mbarrier_init.release.cluster;\nbar.sync 0;\nsetp.lt.u32 %p3, %r1, 128;\n@!%p3 bra $CONSUMER;\n" +
         producer() + "$CONSUMER:\n" + consumer() + "$DONE:\n";
}

float valueOf(int which, int row, int k) {
  return static_cast<float>((row * 5 + k * 7 + which * 3 + row * k % 5) % 7 - 3);
}

/// A, B and D one behind the other, and how far D is off; what is wrong, empty if nothing.
struct Outcome {
  std::string error;
  bool right = true;
};
Outcome run(const std::string &body, uint64_t seed) {
  struct Memory {
    alignas(128) std::array<uint16_t, 128 * depth> left;
    alignas(128) std::array<uint16_t, 64 * depth> right;
    alignas(128) std::array<float, 128 * 64> sums;
  };
  static Memory memory;
  memory.sums.fill(0);
  for (int k = 0; k < depth; ++k) {
    for (int row = 0; row < 128; ++row) memory.left[row * depth + k] = static_cast<uint16_t>(toF16(valueOf(0, row, k)));
    for (int row = 0; row < 64; ++row) memory.right[row * depth + k] = static_cast<uint16_t>(toF16(valueOf(1, row, k)));
  }
  Launch launch;
  launch.parameters.assign(64, 0);
  auto add = [&](TensorMap::Type type, void *address, uint64_t columns, uint64_t rows, uint32_t boxRows,
                 Swizzle swizzle) {
    TensorMap map;
    map.type = type;
    map.rank = 2;
    map.address = reinterpret_cast<uint64_t>(address);
    map.sizes = {columns, rows};
    map.strides = {0, columns * static_cast<uint64_t>(bytesOf(type))};
    map.box = {64, boxRows};
    map.swizzle = swizzle;
    const EncodedTensorMap own = encode(map, {Device::Kind::PtxEmulator, 90});
    launch.parameters.insert(launch.parameters.end(), own.bytes.begin(), own.bytes.end());
  };
  add(TensorMap::Type::F16, memory.left.data(), depth, 128, 128, Swizzle::Bytes128);
  add(TensorMap::Type::F16, memory.right.data(), depth, 64, 64, Swizzle::Bytes128);
  add(TensorMap::Type::F32, memory.sums.data(), 64, 128, 64, Swizzle::None);
  launch.threads = threads;
  launch.sharedBytes = 81920 + 64;
  launch.capability = 90;
  launch.seed = seed;
  launch.steps = 1000000;
  launch.memory = {{reinterpret_cast<uint64_t>(&memory), sizeof memory}};
  Outcome outcome;
  try {
    Module(hopperKernel(body, threads,
                        ",\n.param .align 64 .b8 t_1[128],\n.param .align 64 .b8 t_2[128],\n.param .align 64 .b8 "
                        "t_3[128]"))
        .run("t", launch);
  } catch (const std::exception &error) {
    outcome.error = error.what();
  }
  for (int row = 0; row < 128; ++row)
    for (int column = 0; column < 64; ++column) {
      float sum = 0;
      for (int k = 0; k < depth; ++k) sum += valueOf(0, row, k) * valueOf(1, column, k);
      outcome.right &= memory.sums[row * 64 + column] == sum;
    }
  return outcome;
}

TEST(EmulatorPipeline, isRightByAnySeed) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const Outcome outcome = run(pipeline(), seed);
    EXPECT_EQ(outcome.error, "") << seed;
    EXPECT_TRUE(outcome.right) << seed;
  }
}

TEST(EmulatorPipeline, everyMistakeIsFound) {
  const struct {
    const char *from, *to, *message;
  } mistakes[] = {
      {"[%r25], 24576;", "[%r25], 16384;", ""},
      {"[%r25], 24576;", "[%r25], 32768;", "8192 bytes pending"},
      {"xor.b32 %r23, %r22, 1;", "mov.b32 %r23, %r22;", ""},
      {"mbarrier.init.shared::cta.b64 [%r11+16], 2;", "mbarrier.init.shared::cta.b64 [%r11+16], 1;", ""},
      {"mbarrier.init.shared::cta.b64 [%r11+16], 2;", "mbarrier.init.shared::cta.b64 [%r11+16], 3;",
       "1 of 3 arrivals pending"},
      {"mbarrier.init.shared::cta.b64 [%r11+8], 1;", "mbarrier.init.shared::cta.b64 [%r11+8], 2;",
       "1 of 2 arrivals pending"},
      {"fence.mbarrier_init.release.cluster;\nbar.sync 0;\n", "", "mbarrier"},
      {"wgmma.fence.sync.aligned;\n", "", "no wgmma.fence comes before the first"},
      {"wgmma.wait_group.sync.aligned 0;\n", "", ""},
      {"wgmma.wait_group.sync.aligned 0;\n", "wgmma.wait_group.sync.aligned 1;\n", ""},
      {"wgmma.commit_group.sync.aligned;\n", "", ""},
      {"@%p8 mbarrier.arrive.shared::cta.b64 _, [%r25+16];\n", "", "deadlock"},
      {"@%p8 mbarrier.arrive.shared::cta.b64 _, [%r25+16];\n", "mbarrier.arrive.shared::cta.b64 _, [%r25+16];\n", ""},
      {"fence.proxy.async.shared::cta;\n", "", "no fence.proxy.async of that thread"},
      {"bar.sync %r43, 128;\n", "", ""},
      {"bar.sync %r43, 128;", "bar.sync 1, 128;", ""},
      {"bar.sync %r43, 128;", "bar.sync %r43, 256;", "deadlock"},
      {"@%p8 cp.async.bulk.wait_group.read 0;\n", "", "returned without waiting for its bulk copy"},
      {"@%p8 cp.async.bulk.commit_group;\n", "", "returned without committing its bulk copy"},
      {"aligned.u32 24;", "aligned.u32 40;", "no warp gives away the registers"},
      {"aligned.u32 240;", "aligned.u32 248;", "no warp gives away the registers"},
      {"%r21, 24576, %r10", "%r21, 16384, %r10", ""},
      {"0x4000004000010000", "0x4000006000010000", ""},
  };
  for (const auto &own : mistakes) {
    const std::string body = replaced(pipeline(), own.from, own.to);
    bool found = false;
    for (uint64_t seed = 0; seed < 4; ++seed) {
      const Outcome outcome = run(body, seed);
      found |= !outcome.error.empty() || !outcome.right;
      if (*own.message && !outcome.error.empty())
        EXPECT_NE(outcome.error.find(own.message), std::string::npos) << own.from << "\n" << outcome.error;
    }
    EXPECT_TRUE(found) << own.from << " -> " << own.to;
  }
  // Waits left out.
  for (const auto &[barrier, parity] : {std::pair{"%r25+16", "%r23"}, {"%r25", "%r22"}}) {
    const std::string body = replaced(pipeline(), waitFor(barrier, parity), "");
    EXPECT_NE(run(body, 1).error.find("in t: line"), std::string::npos) << barrier;
  }
}

}  // namespace
}  // namespace weft::ptx
