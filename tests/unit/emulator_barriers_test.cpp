// The emulator's mbarriers and named barriers: what they order, and every misuse that is reported.
#include <gtest/gtest.h>

#include "tests/unit/hopper_text.h"

namespace weft::ptx {
namespace {

/// An mbarrier at 0 that all may use.
std::string begun(int count) {
  return "mov.b32 %r10, 0;\n@%p1 mbarrier.init.shared::cta.b64 [%r10], " + std::to_string(count) + ";\nbar.sync 0;\n";
}
/// Four warps' words at 1024 + 4 * thread, and the word of the same lane of the next warp.
const std::string store = "st.shared.b32 [%r2+1024], %r1;\n",
                  load =
                      "add.s32 %r11, %r2, 128;\nand.b32 %r11, %r11, 511;\nld.shared.b32 %r12, [%r11+1024];\n"
                      "st.global.b32 [%rd3], %r12;\n";

void expectRotated(const std::string &body, int seeds = 8) {
  for (int seed = 0; seed < seeds; ++seed) {
    HopperMemory memory;
    runHopper(hopperKernel(body, 128), memory, 128, static_cast<uint64_t>(seed));
    for (uint32_t thread = 0; thread < 128; ++thread) EXPECT_EQ(memory.words[thread], (thread + 32) % 128) << body;
  }
}

/// check(report, memory) after a kernel with this body, in each of some orders.
template <class Check>
void eachSeed(const std::string &body, int threads, Check check) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    HopperMemory memory;
    const Report report = runHopper(hopperKernel(body, threads), memory, threads, seed);
    check(report, memory);
  }
}

TEST(EmulatorBarriers, mbarriersOrderStoresAndLoads) {
  for (const char *arrive :
       {"mbarrier.arrive.shared.b64 %rd9, [%r10];\n", "mbarrier.arrive.shared::cta.b64 _, [%r10];\n",
        "mbarrier.arrive.release.cta.shared::cta.b64 %rd9, [%r10], 1;\n",
        "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r10];\n",
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r10], 16;\n"
        "mbarrier.complete_tx.shared::cta.b64 [%r10], 16;\n"})
    expectRotated(begun(128) + store + arrive + waitFor("%r10", "0") + load);
  // One arrival of each warp.
  expectRotated(begun(4) + store + "bar.warp.sync -1;\n@%p2 mbarrier.arrive.shared.b64 _, [%r10];\n" +
                waitFor("%r10", "0") + load);
  // With the state, the time, and a test that only looks.
  const std::string arrive = begun(128) + store + "mbarrier.arrive.shared.b64 %rd9, [%r10];\n$AGAIN:\n";
  expectRotated(arrive + "mbarrier.try_wait.shared.b64 %p3, [%r10], %rd9, 1000;\n@!%p3 bra $AGAIN;\n" + load);
  expectRotated(arrive + "mbarrier.test_wait.shared.b64 %p3, [%r10], %rd9;\n@!%p3 bra $AGAIN;\n" + load);
  expectRotated(arrive + "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 %p3, [%r10], 0;\n@!%p3 bra $AGAIN;\n" +
                load);
  // One lane waits for all.
  expectRotated(begun(128) + store + "mbarrier.arrive.shared.b64 _, [%r10];\n@!%p2 bra $SKIP;\n" +
                waitFor("%r10", "0") + "$SKIP:\nbar.warp.sync -1;\n" + load);
  // Generic addresses.
  expectRotated(begun(128) + store +
                "mov.b64 %rd10, 0;\ncvta.shared.u64 %rd10, %rd10;\ncvta.to.shared::cluster.u64 %rd11, "
                "%rd10;\ncvta.shared::cluster.u64 %rd10, %rd11;\nmbarrier.arrive.b64 %rd9, [%rd10];\n" +
                waitFor("%r10", "0") + load);
}

TEST(EmulatorBarriers, mbarriersHavePhases) {
  // A ring of one slot: warp 0 fills, warp 1 empties; ten turns.
  const std::string body =
      "mov.b32 %r10, 0;\nmov.b32 %r20, 0;\nmov.b32 %r21, 0;\n@%p1 mbarrier.init.shared::cta.b64 [%r10], 32;\n"
      "@%p1 mbarrier.init.shared::cta.b64 [%r10+8], 32;\nbar.sync 0;\nsetp.eq.b32 %p3, %r3, 0;\n@!%p3 bra $CONSUMER;\n"
      "$PRODUCE:\nxor.b32 %r22, %r20, 1;\nand.b32 %r22, %r22, 1;\n" +
      waitFor("%r10+8", "%r22") +
      "st.shared.b32 [%r2+1024], %r20;\nmbarrier.arrive.shared.b64 _, [%r10];\nadd.s32 %r20, %r20, 1;\nsetp.lt.s32 "
      "%p4, %r20, 10;\n@%p4 bra $PRODUCE;\nret;\n$CONSUMER:\nsub.s32 %r2, %r2, 128;\n$CONSUME:\nand.b32 %r22, %r20, "
      "1;\n" +
      waitFor("%r10", "%r22") +
      "ld.shared.b32 %r23, [%r2+1024];\nmbarrier.arrive.shared.b64 _, [%r10+8];\nmad.lo.s32 %r21, %r21, 2, "
      "%r23;\nadd.s32 %r20, %r20, 1;\nsetp.lt.s32 %p4, %r20, 10;\n@%p4 bra $CONSUME;\nst.global.b32 [%rd3], %r21;\n";
  uint32_t expected = 0;
  for (uint32_t turn = 0; turn < 10; ++turn) expected = 2 * expected + turn;
  eachSeed(body, 64, [&](const Report &report, const HopperMemory &memory) {
    for (int thread = 32; thread < 64; ++thread) EXPECT_EQ(memory.words[thread], expected);
    EXPECT_LT(report.instructions, 1000);  // polling costs next to nothing
  });
  expectReported({{replaced(body, "[%r10+8], 32;", "[%r10+8], 33;"), "deadlock: ", 64},
                  {replaced(body, "xor.b32 %r22, %r20, 1;", "mov.b32 %r22, %r20;"), "deadlock: ", 64},
                  {replaced(body, "mbarrier.arrive.shared.b64 _, [%r10+8];\n", ""), "deadlock: the mbarrier at", 64},
                  {replaced(body, waitFor("%r10", "%r22"), ""), "shared", 64}});
}

TEST(EmulatorBarriers, cpAsyncArrivesAtAnMbarrier) {
  const std::string copy = begun(128) +
                           "add.s32 %r13, %r2, 1024;\ncp.async.ca.shared.global [%r13], [%rd3], 4;\n"
                           "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%r10];\n",
                    all = copy + waitFor("%r10", "0") + load;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    HopperMemory memory;
    for (uint32_t at = 0; at < 128; ++at) memory.words[at] = at;
    runHopper(hopperKernel(replaced(all, "[%rd3], %r12", "[%rd3+512], %r12"), 128), memory, 128, seed);
    for (uint32_t at = 0; at < 128; ++at) EXPECT_EQ(memory.words[128 + at], (at + 32) % 128);
  }
  expectReported({{replaced(all, waitFor("%r10", "0"), ""), "shared", 128},
                  {replaced(all, "[%r10], 128;", "[%r10], 64;"), "", 128},
                  {replaced(all, ".noinc", ""), "deadlock: the mbarrier", 128}});
}

TEST(EmulatorBarriers, misusedMbarriersAreReported) {
  const std::string arrive = "mbarrier.arrive.shared.b64 %rd9, [%r10];\n";
  expectReported({
      {"mov.b32 %r10, 0;\n" + arrive, "there is no mbarrier at shared address 0x0: mbarrier.init comes first", 32},
      {"mov.b32 %r10, 4;\n" + arrive, "misaligned mbarrier", 32},
      {"mov.b32 %r10, 0;\n@%p1 mbarrier.init.shared.b64 [%r10], 0;", "with a count of 0", 32},
      {"mov.b32 %r10, 0;\n@%p1 mbarrier.init.shared.b64 [%r10], 1048576;", "with a count of 1048576", 32},
      {"mov.b32 %r10, 0;\nmbarrier.init.shared.b64 [%r10], 1;", "is there already", 32},
      {"mov.b32 %r10, 0;\n@%p1 mbarrier.init.shared.b64 [%r10], 64;\n" + arrive, "shared address 0x0", 64},
      {begun(1) + "@%p1 mbarrier.init.shared.b64 [%r10], 1;", "is there already", 32},
      {begun(1) + "@%p1 mbarrier.inval.shared.b64 [%r10];\nbar.sync 0;\n@%p1 " + arrive, "there is no mbarrier", 32},
      {begun(1) + "ld.shared.b32 %r11, [%r10+4];", "which is an mbarrier", 32},
      {begun(1) + "@%p1 st.shared.b32 [%r10], %r1;", "which is an mbarrier", 32},
      {begun(1) + "@%p1 cp.async.ca.shared.global [%r10], [%rd1], 4;", "which is an mbarrier", 32},
      {begun(1) + "@%p1 mbarrier.arrive.expect_tx.shared.b64 _, [%r10], 128;\n@%p1 " + arrive,
       "1 arrivals at the mbarrier at shared address 0x0, whose phase 0 waits for 0", 32},
      {begun(2) + "@%p1 mbarrier.arrive.shared.b64 %rd9, [%r10], 3;", "3 arrivals at the mbarrier", 32},
      {begun(2) + "@%p1 mbarrier.arrive.noComplete.shared.b64 %rd9, [%r10], 2;", ".noComplete", 32},
      {begun(1) + "@%p1 mbarrier.expect_tx.shared.b64 [%r10], 1048576;", "expects 1048576 bytes more", 32},
      {begun(1) + "@%p1 mbarrier.expect_tx.shared.b64 [%r10], 1048575;\n@%p1 mbarrier.expect_tx.shared.b64 [%r10], 1;",
       "expects 1 bytes more, and 1048575 are pending", 32},
      {begun(1) + waitFor("%r10", "0"),
       "deadlock: the mbarrier at shared address 0x0 (phase 0, 1 of 1 arrivals pending, 0 bytes pending) never", 32},
      {begun(1) + "@%p1 mbarrier.arrive.expect_tx.shared.b64 _, [%r10], 128;\n" + waitFor("%r10", "0"),
       "(phase 0, 0 of 1 arrivals pending, 128 bytes pending)", 32},
      {begun(1) + "@%p1 " + arrive + waitFor("%r10", "0") + waitFor("%r10", "1"), "deadlock: the mbarrier", 32},
      {begun(1) + waitFor("%r10", "2"), "a parity of 2", 32},
      {begun(1) + "mov.b64 %rd9, 77;\nmbarrier.test_wait.shared.b64 %p3, [%r10+0], %rd9;", "only this one", 32},
      {begun(1) + "mov.b64 %rd9, 0x1000000000;\nmbarrier.test_wait.shared.b64 %p3, [%r10], %rd9;", "is not of it", 32},
      // What one lane has waited for the others know after a bar.warp.sync.
      {begun(128) + store + arrive + "@!%p2 bra $SKIP;\n" + waitFor("%r10", "0") + "$SKIP:\n" + load, "shared", 128},
      // Nothing is ordered by what is relaxed, nor by a test that fails.
      {begun(128) + store + "mbarrier.arrive.relaxed.cta.shared.b64 _, [%r10];\n" + waitFor("%r10", "0") + load,
       "race: warp", 128},
      {begun(128) + store + arrive + "mbarrier.test_wait.parity.shared.b64 %p3, [%r10], 0;\n" + load, "shared", 128},
      {begun(128) + store + arrive +
           "$AGAIN:\nmbarrier.try_wait.parity.relaxed.cta.shared.b64 %p3, [%r10], 0;\n"
           "@!%p3 bra $AGAIN;\n" +
           load,
       "race: warp", 128},
  });
}

TEST(EmulatorBarriers, clustersAreOfOneBlock) {
  auto errorOf = [](const std::string &directive) -> std::string {
    try {
      HopperMemory memory;
      runHopper(replaced(hopperKernel("nanosleep.u32 20;", 128), ".reqntid", directive + "\n.reqntid"), memory, 128, 1);
    } catch (const std::exception &error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(errorOf(".explicitcluster\n.reqnctapercluster 1, 1, 1"), "");
  EXPECT_NE(errorOf(".reqnctapercluster 2").find("only clusters of one block are known"), std::string::npos);
}

TEST(EmulatorBarriers, whatIsNotExecutedIsNamed) {
  const std::string clusters = "only clusters of one block are executed",
                    narrow = "only conversions of e4m3x2 and e5m2x2";
  const std::pair<std::string, std::string> texts[] = {
      {"ld.shared::cluster.b32 %r10, [%r2]", clusters},
      {"st.shared::cluster.b32 [%r2], %r1", clusters},
      {"st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%r2], %r1, [%r3]", clusters},
      {"red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%r2], %r1, [%r3]", clusters},
      {"atom.shared::cluster.add.u32 %r10, [%r2], 1", clusters},
      {"barrier.cluster.arrive.aligned", clusters},
      {"barrier.cluster.wait.acquire.aligned", clusters},
      {"getctarank.shared::cluster.u32 %r10, %r2", clusters},
      {"cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r2], [%r3], 16, [%r4]", clusters},
      {"clusterlaunchcontrol.try_cancel.async.shared::cta.mbarrier::complete_tx::bytes.b128 [%r2], [%r3]", clusters},
      {"cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r2], "
       "[%rd1, {%r3, %r4}], [%r5], %rs1",
       "copies to several blocks of a cluster"},
      {"cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r2], [%rd1], 16, "
       "[%r5], %rs1",
       "copies to several blocks of a cluster"},
      {"cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%r2], "
       "[%rd1, {%r3, %r4, %r5, %r6}], [%r7], {%rs1, %rs2}",
       "encoded before the launch"},
      {"tensormap.replace.tile.global_address.global.b1024.b64 [%rd1], %rd2", "encoded before the launch"},
      {"cvt.rn.satfinite.e2m1x2.f32 %rs1, %f1, %f2", narrow},
      {"cvt.rn.bf16x2.ue8m0x2 %r10, %rs1", narrow},
      {"wgmma.mma_async.sync.aligned.m64n8k32.f32.e4m3.e4m3 {%f0, %f1, %f2, %f3}, %rd1, %rd2, 1, 1, 1", narrow},
      {"mma.sync.aligned.m16n8k32.row.col.f32.e5m2.e5m2.f32 {%f0, %f1, %f2, %f3}, {%r5, %r6, %r7, %r8}, {%r9, %r10}, "
       "{%f0, %f1, %f2, %f3}",
       narrow},
      {"wgmma.mma_async.sp.sync.aligned.m64n8k32.f32.f16.f16 {%f0, %f1, %f2, %f3}, %rd1, %rd2, %r1, 0, 1, 1, 1, 0, 0",
       "sparse products"},
      {"wgmma.mma_async.sync.aligned.m64n8k32.s32.s8.s8 {%r5, %r6, %r7, %r8}, %rd1, %rd2, 1",
       "of this shape or of these types"},
      {"mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%rd4, %rd5}, {%rd6}, {%rd7}, {%rd4, %rd5}",
       "of this shape or of these types"},
      {"tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r2], 32", "tensor cores of sm_100"},
      {"multimem.red.global.add.f32 [%rd1], %f1", "memory of several GPUs"},
      {"st.local.b32 [%r2], %r1", "local memory"},
  };
  for (const auto &[text, reason] : texts) {
    const std::string error = hopperError(text + ";", 128, 1);
    EXPECT_NE(error.find("unsupported " + text.substr(0, text.find(' ')) + ": "), std::string::npos) << text << error;
    EXPECT_NE(error.find(reason), std::string::npos) << text << "\n" << error;
    EXPECT_NE(error.find("line "), std::string::npos) << error;
  }
}

TEST(EmulatorBarriers, namedBarriersJoinPartOfTheBlock) {
  // Warps 0 and 1, and 2 and 3, exchange what they have.
  const std::string pair =
      "shr.u32 %r13, %r3, 1;\nadd.s32 %r13, %r13, 1;\nadd.s32 %r14, %r2, 1024;\n"
      "st.shared.b32 [%r14], %r1;\nbar.sync %r13, 64;\nxor.b32 %r14, %r14, 128;\n"
      "ld.shared.b32 %r12, [%r14];\nst.global.b32 [%rd3], %r12;\n";
  eachSeed(pair, 128, [](const Report &report, const HopperMemory &memory) {
    EXPECT_EQ(report.barriers, 2);
    for (uint32_t thread = 0; thread < 128; ++thread) EXPECT_EQ(memory.words[thread], thread ^ 32);
  });
  // Warp 0 gives, the others take.
  const std::string give =
      "setp.eq.b32 %p3, %r3, 0;\n@!%p3 bra $TAKE;\nst.shared.b32 [%r2+1024], %r1;\nbarrier.cta.arrive.aligned 5, 128;\n"
      "ret;\n$TAKE:\nbarrier.cta.sync.aligned 5, 128;\nshl.b32 %r14, %r4, 2;\nld.shared.b32 %r12, [%r14+1024];\n"
      "st.global.b32 [%rd3], %r12;\n";
  eachSeed(give, 128, [](const Report &, const HopperMemory &memory) {
    for (uint32_t thread = 32; thread < 128; ++thread) EXPECT_EQ(memory.words[thread], thread % 32);
  });
  expectReported({
      {replaced(pair, "bar.sync %r13, 64", "bar.sync %r13, 32"), "shared", 128},
      {replaced(pair, "bar.sync %r13, 64", "bar.sync %r13, 96"), "deadlock: barrier", 128},
      {replaced(pair, "bar.sync %r13, 64", "bar.sync %r13, 63"), "no multiple of 32", 128},
      {replaced(pair, "bar.sync %r13, 64", "bar.sync %r13, 160"), "the block has 128", 128},
      {replaced(pair, "bar.sync %r13, 64", "add.s32 %r13, %r13, 15;\nbar.sync %r13, 64"), "a block has 16", 128},
      {replaced(pair, "bar.sync %r13, 64", "bar.sync %r1, 64"), "different barriers", 128},
      {replaced(pair, "bar.sync %r13, 64", "mad.lo.s32 %r15, %r3, 32, 64;\nbar.sync 1, %r15"), "threads here, and of",
       128},
      {replaced(give, "sync.aligned 5", "sync.aligned 6"), "deadlock: barrier 6 has seen 96 of 128 threads", 128},
      {replaced(give, "ret;", "bar.arrive 5, 128;\nret;"), "again before the others have come", 128},
      {"setp.lt.u32 %p3, %r1, 16;\n@%p3 bar.sync 1, 32;", "only part of the warp reaches this", 64},
  });
}

TEST(EmulatorBarriers, readersOfManyWarpsAreToldApart) {
  // All warps read a word; thread 0 writes it after all of them, or three of the four.
  const std::string good =
      "mov.b32 %r10, smem;\n@%p1 st.shared.b32 [%r10], 7;\nbar.sync 0;\nld.shared.b32 %r12, [%r10];\nbar.sync 1, "
      "128;\n@%p1 st.shared.b32 [%r10], 8;\n";
  EXPECT_EQ(hopperError(good, 128), "");
  expectReported(
      {{replaced(good, "bar.sync 1, 128;", "setp.lt.u32 %p3, %r1, 96;\n@%p3 bar.sync 1, 96;"), "race: ", 128}});
}

}  // namespace
}  // namespace weft::ptx
