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
  }
  Mutator mutator(texts, first);
  uint64_t ran = 0, parsed = 0;
  for (uint64_t at = 0; at < count; ++at) {
    const std::string text = mutator.next();
    Arena arena;
    const std::string error = run(text, arena, 5000, entryOf(text), at % 2 ? 64 : 128, at % 3 ? 16384 : 1024);
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
