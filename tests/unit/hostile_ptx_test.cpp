// PTX that means harm: whatever a text says, the emulator runs it within its own memory or refuses it with an error.
#include <gtest/gtest.h>

#include <cstring>

#include "tests/unit/ptx_text.h"

namespace weft::ptx {
namespace {

std::string errorOf(const std::string &text, int64_t steps = 10000) {
  Arena arena;
  const std::string error = run(text, arena, steps);
  EXPECT_TRUE(arena.intact()) << text;
  return error;
}

TEST(HostilePtx, addressesThatWrapAround) {
  for (const char *body :
       {"mov.b32 %r3, 0;\nst.shared.b32 [%r3+-4], %r1;", "mov.b32 %r3, 0;\nst.shared.b64 [%r3+-8], %rd1;",
        "mov.b64 %rd3, -4;\nst.shared.b32 [%rd3], %r1;", "mov.b32 %r3, 0;\nld.shared.b32 %r4, [%r3+-4];",
        "mov.b32 %r3, 0;\ncp.async.cg.shared.global [%r3+-16], [%rd1], 16;",
        "mov.b32 %r3, -16;\nldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r4, %r5, %r6, %r7}, [%r3];"})
    EXPECT_NE(errorOf(kernel(body)).find("outside shared memory"), std::string::npos) << body << errorOf(kernel(body));
  for (const char *body :
       {"mov.b64 %rd3, -8;\nst.global.b64 [%rd3], %rd1;", "mov.b64 %rd3, 0;\nld.global.b32 %r3, [%rd3+-4];",
        "ld.global.b32 %r3, [8];", "mov.b64 %rd3, -4;\nred.global.add.f32 [%rd3], 0f3F800000;",
        "mov.b32 %r3, 0;\ncp.async.cg.shared.global [%r3], [%rd1+-16], 16;",
        "st.global.v4.b32 [%rd1+16384], {%r1, %r1, %r1, %r1};",
        "mov.b32 %r3, 0;\ncp.async.cg.shared.global [%r3], [0], 16;"})
    EXPECT_NE(errorOf(kernel(body)).find("outside all buffers"), std::string::npos) << body << errorOf(kernel(body));
  EXPECT_NE(errorOf(kernel("ld.param.b64 %rd3, [t_0+-8];")).find("past the parameters"), std::string::npos);
  EXPECT_NE(errorOf(kernel("ld.param.b64 %rd3, [t_0+8192];")).find("past the parameters"), std::string::npos);
  // A negative offset from a place inside is as good as any.
  EXPECT_EQ(errorOf(kernel("mul.wide.u32 %rd3, %r1, 4;\nadd.s64 %rd3, %rd3, %rd1;\nst.global.b32 [%rd3+-0], "
                           "0;\nmov.b32 %r3, 64;\nsetp.eq.b32 %p1, %r1, 0;\n@%p1 st.shared.b32 [%r3+-4], 7;")),
            "");
}

TEST(HostilePtx, sizesOfCopies) {
  for (const char *body : {"mov.b32 %r3, 0;\nmov.b32 %r4, -1;\ncp.async.cg.shared.global [%r3], [%rd1], 16, %r4;",
                           "mov.b32 %r3, 0;\ncp.async.cg.shared.global [%r3], [%rd1], 4096;",
                           "mov.b32 %r3, 0;\ncp.async.ca.shared.global [%r3], [%rd1], 0;",
                           "mov.b32 %r3, 0;\ncp.async.cg.shared.global [%r3], [%rd1], 8;",
                           "mov.b32 %r3, 0;\nmov.b32 %r4, 17;\ncp.async.cg.shared.global [%r3], [%rd1], 16, %r4;"})
    EXPECT_NE(errorOf(kernel(body)).find("cp.async of"), std::string::npos) << body;
}

TEST(HostilePtx, loopsThatNeverEnd) {
  for (const char *body :
       {"$L:\nbra.uni $L;", "$L:\nbar.sync 0;\nbra $L;", "setp.eq.b32 %p1, 0, 1;\n$L:\n@!%p1 bra $L;",
        "and.b32 %r3, %r1, 1;\nsetp.eq.b32 %p1, %r3, 0;\n$L:\n@%p1 bra $L;"})
    EXPECT_NE(errorOf(kernel(body)).find("the launch has executed 10000 warp instructions"), std::string::npos)
        << body << errorOf(kernel(body));
  // As many as it takes are enough.
  EXPECT_EQ(errorOf(kernel("mov.b32 %r3, 0;\n$L:\nadd.s32 %r3, %r3, 1;\nsetp.lt.u32 %p1, %r3, 2000;\n@%p1 bra $L;"),
                    4 * 6010 + 4096),
            "");
}

TEST(HostilePtx, operandsThatDoNotFit) {
  for (const char *body :
       {"bra %r1;",
        "bra;",
        "ret 1, 2, 3;",
        "add.s32 %r3;",
        "add.s32 %r3, %r1, %r1, %r1;",
        "add.s32 3, %r1, %r1;",
        "add.s32 [%rd1], %r1, %r1;",
        "add.s64 %r3, %rd1, %rd1;",
        "add.s32 %r3, %rd1, 1;",
        "add.s32 %r3, {%r1, %r1}, 1;",
        "mov.u32 %rd3, %tid.x;",
        "add.s32 %r3, %tid.x, 1;",
        "not.b32 %r3, %tid.x;",
        "ld.global.b32 %r3, [t_0];",
        "ld.param.b32 %r3, [%rd1];",
        "ld.global.b32 %r3, [%rs1];",
        "ld.global.b32 %r3, [%tid.x];",
        "ld.global.b32 %r3, %rd1;",
        "ld.global.v2.b32 %r3, [%rd1];",
        "ld.global.v4.b64 {%rd2, %rd3, %rd4, %rd5}, [%rd1];",
        "ld.global.b32 %rs1, [%rd1];",
        "ld.global.b32 5, [%rd1];",
        "st.global.b32 %rd1, [%r1];",
        "setp.eq.b32 %r3, %r1, 0;",
        "selp.b32 %r3, 1, 2, %r1;",
        "mov.b32 %r3, {%r1, %r1};",
        "mov.b32 {%rs1, %r3}, %r1;",
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r2, %r3}, {%r1, %r1, %r1, %r1}, {%r1, "
        "%r1}, {%r1, %r1, %r1, %r1};",
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 %r2, %r1, %r1, %r1;",
        "ldmatrix.sync.aligned.m8n8.x4.shared.b16 %r2, [%r1];",
        "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r2, %r3, %r4, %r5}, %r1;",
        "cp.async.wait_group %r1;",
        "cp.async.wait_group;",
        "bar.sync %r1;",
        "shfl.sync.bfly.b32 %r3, %r1;",
        "vote.sync.ballot.b32 %r3, %r1, -1;",
        "mov.b16 %rs1, 70000;",
        "mov.b32 %r3, 4294967296;",
        "mov.b32 %r3, 0f;",
        "mov.b32 %r3, 0x;",
        "mov.b32 %r3, 99999999999999999999;",
        "@%r1 ret;",
        "add.s32 %r99, %r1, 1;",
        "add.s32 %r01, %r1, 1;",
        "mul.wide.s64 %rd3, %rd1, %rd1;",
        "setp.hi.s32 %p1, %r1, 0;",
        "$A:\n$A:",
        "add.s32 %r3, %r1, $A;",
        "shl.b32 %r3, %r1, %rd1;",
        "cvt.u32.f16 %r3, %r1;",
        "prmt.b64 %rd3, %rd1, %rd1, %rd1;",
        "mbarrier.init.shared.b64 %r3, 1;",
        "mbarrier.init.shared.b64 [%r1];",
        "mbarrier.inval.shared.b64 [%r1], 1;",
        "mbarrier.arrive.shared.b64 %r3, [%r1];",
        "mbarrier.arrive.shared.b64 [%r1];",
        "mbarrier.arrive.release.shared.b64 _, [%r1];",
        "mbarrier.arrive.expect_tx.shared.b64 _, [%r1];",
        "mbarrier.try_wait.parity.shared.b64 %r3, [%r1], 0;",
        "mbarrier.try_wait.shared.b64 %p1, [%r1], %r1;",
        "mbarrier.test_wait.parity.shared.b64 %p1, [%r1], 0, 5;",
        "mbarrier.arrive.b64 _, [%r1];",
        "mov.b32 _, %r1;",
        "mov.b32 %r3, _;",
        "add.s32 %r3, %r1, _;",
        "add.s32 %r3|%r4, %r1, 1;",
        "elect.sync %r3, -1;",
        "elect.sync %r3|%r4, -1;",
        "elect.sync %p1|%r3, -1;",
        "elect.sync %r3|%p1|%p2, -1;",
        "barrier.cta.arrive.aligned 1;",
        "bar.sync 1, 32, 32;",
        "setmaxnreg.inc.sync.aligned.u32 %r1;",
        "setmaxnreg.inc.sync.aligned.u32;",
        "cp.async.bulk.wait_group %r1;",
        "cp.async.bulk.commit_group 1;",
        "cvta.shared.u64 %r3, %r1;",
        "mapa.shared::cluster.u32 %rd3, %r1, 0;",
        "cp.async.bulk.tensor.2d.shared::cta.global.mbarrier::complete_tx::bytes [%r1], [%rd1], [%r1];",
        "cp.async.bulk.tensor.2d.shared::cta.global.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r1}], [%r1];",
        "cp.async.bulk.tensor.2d.shared::cta.global.mbarrier::complete_tx::bytes [%r1], [%rd1], {%r1, %r1}, [%r1];",
        "cp.async.bulk.tensor.2d.shared::cta.global.mbarrier::complete_tx::bytes [%r1], [%rd1, {}], [%r1];",
        "cp.async.bulk.tensor.2d.shared::cta.global.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r1, %rd1}], [%r1];",
        "cp.async.bulk.tensor.2d.shared::cta.global.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r1, %r1], [%r1];",
        "cp.async.bulk.tensor.6d.shared::cta.global.mbarrier::complete_tx::bytes [%r1], [%rd1, {1, 1, 1, 1, 1, 1}], "
        "[%r1];",
        "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd1, {1, 1}], %r1;",
        "cp.reduce.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd1, {1, 1}], [%r1];",
        "ld.shared.b32 %r3, [%r1, {%r1}];",
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%r2, %r3}, %rd1, %rd1, 1, 1, 1, 0, 0;",
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%r2, %r3, %r4, %r5}, {%r1, %r1}, %rd1, 1, 1, 1, 0, 0;",
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%r2, %r3, %r4, %r5}, %r1, %rd1, 1, 1, 1, 0, 0;",
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%r2, %r3, %r4, 7}, %rd1, %rd1, 1, 1, 1, 0, 0;",
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%r2, %r3, %r4, %r5}, %rd1, %rd1, %r1, 1, 1, 0, 0;",
        "wgmma.mma_async.sync.aligned.m64n12k16.f32.f16.f16 {%r2, %r3, %r4, %r5, %r6, %r7}, %rd1, %rd1, 1, 1, 1, 0, 0;",
        "wgmma.wait_group.sync.aligned;",
        "{\n$INSIDE:\n}\nbra $INSIDE;",
        ".shared .b8 late[4];"})
    EXPECT_NE(errorOf(kernel(body)), "") << body;
}

TEST(HostilePtx, declarationsWithoutMeasure) {
  EXPECT_EQ(errorOf(header(".shared .align 16 .b8 fixed[1024];\n") + "ret;\n}\n"), "");
  EXPECT_NE(
      errorOf(header(".shared .align 16 .b8 fixed[49153];\n") + "ret;\n}\n").find("bytes of static shared memory"),
      std::string::npos);
  EXPECT_NE(errorOf(header(".shared .b64 fixed[2147483648];\n") + "ret;\n}\n").find("bytes of static shared memory"),
            std::string::npos);
  EXPECT_NE(errorOf(header(".shared .b8 fixed[99999999999999999999];\n") + "ret;\n}\n"), "");
  EXPECT_NE(errorOf(header(".shared .b8 fixed[-1];\n") + "ret;\n}\n"), "");
  EXPECT_EQ(errorOf(header() + ".reg .b32 %r<2147483648>;\nmov.b32 %r2147483647, 1;\nret;\n}\n"), "");  // one register
  EXPECT_NE(errorOf(header() + ".reg .b32 %r<-1>;\nret;\n}\n"), "");
  EXPECT_NE(errorOf(header() + ".reg .b32 %r<9>;\n.reg .b64 %r<9>;\nret;\n}\n"), "");
  std::string many = header() + ".reg .b32 %r<70000>;\n";
  for (int at = 0; at < 70000; ++at) many += "mov.b32 %r" + std::to_string(at) + ", 0;\n";
  EXPECT_NE(errorOf(many + "ret;\n}\n").find("more than 65536 registers"), std::string::npos);
  // Branches inside one another, whose meeting points are the farthest apart.
  std::string nested = header() + ".reg .pred %p<2>;\nsetp.eq.b32 %p1, 0, 1;\n";
  for (int at = 0; at < 4000; ++at) nested += "@%p1 bra $L" + std::to_string(at) + ";\n";
  for (int at = 4000; at-- > 0;) nested += "$L" + std::to_string(at) + ":\n@%p1 bra $L" + std::to_string(at) + ";\n";
  EXPECT_EQ(errorOf(nested + "ret;\n}\n", 100000), "");
  std::string branches = header();
  for (int at = 0; at < 32769; ++at) branches += "ret;\n";
  EXPECT_NE(errorOf(branches + "}\n").find("more than 32768 branches"), std::string::npos);
  EXPECT_NE(errorOf(".version 7.0\n.target sm_80\n.visible .entry t(\n.param .b8 p[99999]\n)\n{\nret;\n}\n")
                .find("bytes of parameters"),
            std::string::npos);
  EXPECT_NE(errorOf(".version 7.0\n.target sm_80\n.visible .entry t()\n.reqntid 99999, 99999\n{\nret;\n}\n"), "");
}

TEST(HostilePtx, staticSharedMemoryLiesBeforeDynamic) {
  const std::string text =
      header(".shared .align 4 .b32 fixed[3];\n") +
      ".reg .pred %p<2>;\n.reg .b32 %r<9>;\nmov.u32 %r1, %tid.x;\nsetp.eq.b32 %p1, %r1, 0;\nmov.b32 %r2, smem;\n"
      "@%p1 st.shared.b32 [fixed+8], 7;\n@%p1 st.shared.b32 [%r2], 9;\n@%p1 ld.shared.b32 %r3, [fixed+8];\n@%p1 "
      "st.shared.b32 [%r2+16380], %r3;\n";
  EXPECT_EQ(errorOf(text + "ret;\n}\n"), "");
  EXPECT_NE(
      errorOf(text + "@%p1 st.shared.b32 [%r2+16384], %r3;\nret;\n}\n").find("outside shared memory of 16400 bytes"),
      std::string::npos);
}

TEST(HostilePtx, divisionsAndShiftsAreDefined) {
  // 64 threads: each has its place.
  auto compute = [](const std::string &instructions) {
    Arena arena;
    const std::string error = run(kernel("mul.wide.u32 %rd2, %r1, 8;\nadd.s64 %rd2, %rd2, %rd1;\nmov.b32 %r2, 0;\n" +
                                         instructions + "\nst.global.b64 [%rd2], %rd9;"),
                                  arena, 1000);
    EXPECT_EQ(error, "") << instructions;
    uint64_t result;
    std::memcpy(&result, arena.begin() + 8, 8);
    return result;
  };
  const std::string least = "mov.b64 %rd3, 0x8000000000000000;\nmov.b64 %rd4, -1;\n";
  EXPECT_EQ(compute(least + "div.s64 %rd9, %rd3, %rd4;"), 0x8000000000000000u);
  EXPECT_EQ(compute(least + "rem.s64 %rd9, %rd3, %rd4;"), 0u);
  EXPECT_EQ(compute(least + "abs.s64 %rd9, %rd3;"), 0x8000000000000000u);
  EXPECT_EQ(compute(least + "neg.s64 %rd9, %rd3;"), 0x8000000000000000u);
  EXPECT_EQ(compute(least + "mul.hi.s64 %rd9, %rd3, %rd3;"), 0x4000000000000000u);
  EXPECT_EQ(compute(least + "div.s64 %rd9, %rd3, 0;"), ~0u + (uint64_t{0xFFFFFFFF} << 32));
  EXPECT_EQ(compute(least + "rem.u64 %rd9, %rd3, 0;"), 0x8000000000000000u);
  EXPECT_EQ(compute("mov.b32 %r3, 0x80000000;\ndiv.s32 %r4, %r3, -1;\ncvt.u64.u32 %rd9, %r4;"), 0x80000000u);
  EXPECT_EQ(compute(least + "mov.b32 %r3, 4294967295;\nshl.b64 %rd9, %rd3, %r3;"), 0u);
  EXPECT_EQ(compute(least + "mov.b32 %r3, 4294967295;\nshr.s64 %rd9, %rd3, %r3;"), ~uint64_t{0});
  EXPECT_EQ(compute(least + "mov.b32 %r3, 64;\nshr.u64 %rd9, %rd3, %r3;"), 0u);
  EXPECT_EQ(compute(least + "bfe.u64 %rd9, %rd3, 200, 100;"), 0u);
  EXPECT_EQ(compute(least + "bfe.s64 %rd9, %rd3, 60, 100;"), ~uint64_t{7});
  EXPECT_EQ(compute("mov.b32 %r3, 0xF0;\nbfe.s32 %r4, %r3, 4, 4;\ncvt.u64.u32 %rd9, %r4;"), 0xFFFFFFFFu);
  EXPECT_EQ(compute("mov.b32 %r3, 0xF0;\nbfe.u32 %r4, %r3, 31, 255;\ncvt.u64.u32 %rd9, %r4;"), 0u);
  EXPECT_EQ(compute(least + "popc.b64 %r4, %rd4;\ncvt.u64.u32 %rd9, %r4;"), 64u);
  EXPECT_EQ(compute("mov.b64 %rd3, 0x100000002;\nmov.b64 {_, %r4}, %rd3;\ncvt.u64.u32 %rd9, %r4;"), 1u);
  EXPECT_EQ(compute("mov.b64 %rd3, 0x100000002;\nmov.b64 {%r4, _}, %rd3;\ncvt.u64.u32 %rd9, %r4;"), 2u);
  EXPECT_EQ(compute("mov.b64 %rd3, 0;\nclz.b64 %r4, %rd3;\ncvt.u64.u32 %rd9, %r4;"), 64u);
  EXPECT_EQ(compute("mov.b32 %r3, 0;\nclz.b32 %r4, %r3;\ncvt.u64.u32 %rd9, %r4;"), 32u);
  EXPECT_EQ(compute("mov.b32 %r3, 0xF0;\nclz.b32 %r4, %r3;\ncvt.u64.u32 %rd9, %r4;"), 24u);
  EXPECT_EQ(compute("mov.b32 %r3, 0x7FC00000;\ncvt.rzi.s64.f32 %rd9, %r3;"), 0x8000000000000000u);
  EXPECT_EQ(compute("mov.b32 %r3, 0x7F800000;\ncvt.rzi.u64.f32 %rd9, %r3;"), ~uint64_t{0});
}

}  // namespace
}  // namespace weft::ptx
