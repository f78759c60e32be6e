// Random PTX near what the compiler writes: the emulator runs it within its own memory or refuses it.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "compiler/compiler.h"
#include "tests/unit/call.h"
#include "tests/unit/ptx_mutator.h"
#include "tests/unit/ptx_text.h"

namespace weft::ptx {
namespace {

/// All that sm_90a has, in a kernel of two maps (see ptx_text.h) and 128 threads.
std::string hopperText() {
  std::string text = kernel(
      "mov.b64 %rd2, t_1;\ncvta.param.u64 %rd3, %rd2;\nmov.b64 %rd4, t_2;\nprefetch.tensormap [%rd3];\nmov.b32 %r2, "
      "smem;\nadd.s32 %r3, %r2, 4096;\nelect.sync %r4|%p1, -1;\nsetp.lt.u32 %p2, %r1, 32;\nand.pred %p1, %p1, "
      "%p2;\n@%p1 mbarrier.init.shared::cta.b64 [%r3], 1;\n@%p1 mbarrier.init.shared::cta.b64 [%r3+8], "
      "128;\nfence.mbarrier_init.release.cluster;\nbar.sync 0;\n@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, "
      "[%r3], 4096;\n@%p1 cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd3, "
      "{-3, 20}], [%r3];\n@%p1 cp.async.bulk.tensor.3d.shared::cta.global.mbarrier::complete_tx::bytes [%r2+1024], "
      "[%rd4, {0, 1, 1}], [%r3];\n@%p1 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2+2048], "
      "[%rd1], 2048, [%r3];\n{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%r3], "
      "0;\n@!done bra.uni again;\n}\nmov.b64 %rd5, 0x8000002000010000;\nmov.b32 %r5, 0;\nmov.b32 %r6, "
      "0;\nmov.b32 %r7, 0;\nmov.b32 %r8, 0;\nwgmma.fence.sync.aligned;\n"
      "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%r10, %r11, %r12, %r13}, {%r5, %r6, %r7, %r8}, %rd5, 0, 1, "
      "1, 0;\nwgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%r10, %r11, %r12, %r13}, %rd5, %rd5, 1, 1, 1, 0, "
      "0;\nwgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\nmbarrier.arrive.shared::cta.b64 %rd6, "
      "[%r3+8];\n$AGAIN:\nmbarrier.try_wait.shared::cta.b64 %p3, [%r3+8], %rd6, 100;\n@!%p3 bra $AGAIN;\nshl.b32 "
      "%r9, %r1, 3;\nadd.s32 %r9, %r9, %r2;\nst.shared.v2.b32 [%r9], {%r10, %r11};\nfence.proxy.async;\n"
      "barrier.cta.sync.aligned 3, 128;\n@%p1 cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd3, {0, 4}], "
      "[%r2];\n@%p1 cp.async.bulk.commit_group;\n@%p1 cp.async.bulk.wait_group.read 0;\nbar.sync 0;\n"
      "setmaxnreg.dec.sync.aligned.u32 64;\n@%p1 mbarrier.inval.shared::cta.b64 [%r3];");
  const std::string old = ".target sm_80", parameter = ".param .b64 t_0\n)\n";
  text.replace(text.find(old), old.size(), ".target sm_90a");
  text.replace(text.find(parameter), parameter.size(),
               ".param .b64 t_0,\n.param .align 64 .b8 t_1[128],\n.param .align 64 .b8 t_2[128]\n)\n.reqntid 128\n");
  return text;
}

/// Kernels as the compiler writes them, small, and a text with what they lack.
std::vector<std::string> realKernels() {
  std::vector<std::string> texts{kernel(
      "mov.b32 %r2, smem;\nmul.wide.u32 %rd2, %r1, 16;\nadd.s64 %rd3, %rd1, %rd2;\ncvt.u32.u64 %r3, %rd2;\nadd.s32 "
      "%r3, %r3, %r2;\ncp.async.cg.shared.global [%r3], [%rd3], 16;\n"
      "cp.async.commit_group;\ncp.async.wait_group 0;\nbar.sync 0;\nldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r4, "
      "%r5, %r6, %r7}, [%r3];\nmov.b32 %r8, 0;\n"
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r9, %r10, %r11, %r12}, {%r4, %r5, %r6, %r7}, {%r4, %r5}, "
      "{%r8, %r8, %r8, %r8};\n$LOOP:\nadd.s32 %r8, %r8, 1;\nsetp.lt.s32 %p1, %r8, %r1;\n"
      "@%p1 bra $LOOP;\nshfl.sync.bfly.b32 %r13, %r9, 1, 31, -1;\ndiv.s32 %r14, %r8, 3;\nrem.s64 %rd4, %rd2, "
      "7;\nst.shared.v2.b32 [%r3], {%r13, %r14};\nbar.warp.sync -1;\nld.shared.b64 %rd5, [%r3];\n"
      "mov.u32 %r15, %ctaid.x;\nsetp.eq.b32 %p2, %r15, 0;\n@%p2 st.global.b64 [%rd3+1024], %rd5;\nred.global.add.f32 "
      "[%rd1+8192], 0f3F800000;\nvote.sync.ballot.b32 %r16, %p1, -1;\nbfe.s32 %r17, %r16, %r1, 5;\n"
      "shl.b64 %rd6, %rd2, %r17;\nex2.approx.ftz.f32 %r18, %r9;\ncvt.rzi.s32.f32 %r19, %r18;\nmov.b32 {%rs1, %rs2}, "
      "%r19;\nprmt.b32 %r20, %r19, %r18, 0x5410;")};
  texts.push_back(hopperText());
  auto variant = testing::variantOf("causal");
  const std::pair<const char *, ElementType> kernels[] = {{"plan_band", ElementType::F32},
                                                          {"forward", ElementType::BF16}};
  for (const auto &[name, type] : kernels) {
    CompileRequest request;
    request.variant = variant;
    request.kernel = name;
    request.type = type;
    request.target = "sm_80";
    request.dims = {{"D", 16}, {"E", 16}};
    request.schedule.tileQ = request.schedule.tileK = 16;
    request.schedule = fitted(request.schedule, *variant);
    request.stage = Stage::Assembly;
    CompileResult result = compile(request);
    EXPECT_EQ(result.error, "");
    texts.push_back(std::move(result.text));
  }
  return texts;
}

std::string entryOf(const std::string &text) {
  const size_t begin = text.find(".entry ");
  if (begin == std::string::npos) return "t";
  size_t end = begin + 7;
  while (end < text.size() && (std::isalnum(static_cast<unsigned char>(text[end])) || text[end] == '_')) ++end;
  return text.substr(begin + 7, end - begin - 7);
}

/// WEFT_PTX_FUZZ_COUNT, WEFT_PTX_FUZZ_SEED: how many, from where.
TEST(HostilePtx, randomTexts) {
  auto number = [](const char *name, uint64_t otherwise) {
    const char *value = std::getenv(name);
    return value ? std::strtoull(value, nullptr, 10) : otherwise;
  };
  const uint64_t count = number("WEFT_PTX_FUZZ_COUNT", 3000), first = number("WEFT_PTX_FUZZ_SEED", 1);
  const std::vector<std::string> texts = realKernels();
  // Unharmed they get as far as their arguments let them.
  for (const std::string &text : texts) {
    Arena arena;
    const std::string error = run(text, arena, 1 << 20, entryOf(text), 128);
    EXPECT_EQ(error.find("ptx line"), std::string::npos) << error;
    if (text.find("sm_90a") != std::string::npos) EXPECT_EQ(error, "");
  }
  Mutator mutator(texts, first);
  uint64_t ran = 0, parsed = 0;
  for (uint64_t at = 0; at < count; ++at) {
    const std::string text = mutator.next();
    Arena arena;
    const bool all = text.find("sm_90a") != std::string::npos;
    const std::string error =
        run(text, arena, 5000, entryOf(text), all || at % 2 == 0 ? 128 : 64, at % 3 ? 16384 : 1024);
    ASSERT_TRUE(arena.intact()) << "seed " << first << ", text " << at << ":\n" << text;
    ran += error.empty();
    parsed += error.find("ptx line") == std::string::npos;
  }
  // Neither all refused at once nor all harmless.
  EXPECT_GT(parsed, count / 20);
  EXPECT_LT(ran, count);
  RecordProperty("parsed", static_cast<int>(parsed));
  RecordProperty("ran", static_cast<int>(ran));
  std::printf("%llu texts: %llu parsed, %llu ran to the end\n", static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(parsed), static_cast<unsigned long long>(ran));
}

}  // namespace
}  // namespace weft::ptx
