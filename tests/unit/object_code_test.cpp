// Object code in this process: it is entered where it says itself, and reaches nothing of the process that it need not.
#include <gtest/gtest.h>

#include <elf.h>

#include <bit>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <limits>
#include <sstream>
#include <type_traits>
#include <utility>
#include <vector>

#include "compiler/compiler.h"
#include "runtime/cpu/object_loader.h"
#include "tests/unit/call.h"
#include "tests/unit/inputs.h"

namespace weft::testing {
namespace {

KernelImage compiled(const std::string &variant, const std::string &kernel, const std::string &target,
                     ElementType type = ElementType::F32) {
  CompileRequest request;
  request.variant = variantOf(variant);
  request.kernel = kernel;
  request.target = target;
  request.type = type;
  request.dims = {{"D", 16}, {"E", 16}};
  CompileResult result = compile(request);
  EXPECT_EQ(result.error, "");
  return result.image;
}

/// Why the loader does not take it; empty where it does.
std::string refusal(const std::string &code, const std::string &entry) {
  try {
    return cpu::loadObject(code, entry) ? "" : "null";
  } catch (const std::runtime_error &error) {
    return error.what();
  }
}

TEST(ObjectCode, entriesAreItsOwn) {
  const KernelImage image = compiled("causal", "plan_band", "host");
  EXPECT_EQ(refusal(image.code, image.entry), "");
  for (const char *other : {"printf", "system", "memset", "", "weft_causal_forward"})
    EXPECT_NE(refusal(image.code, other).find("defines no function"), std::string::npos) << other;
  EXPECT_NE(refusal("no object code", image.entry), "");
}

TEST(ObjectCode, callsOnlyWhatItMay) {
  const KernelImage image = compiled("causal", "plan_band", "host");
  ASSERT_EQ(image.code.substr(0, SELFMAG), ELFMAG);
  // Its own entry becomes one that it expects of this process.
  std::string code = image.code;
  auto at = [&](auto *&place, size_t offset) {
    place = reinterpret_cast<std::remove_reference_t<decltype(place)>>(code.data() + offset);
  };
  Elf64_Ehdr *header;
  at(header, 0);
  size_t changed = 0;
  for (size_t number = 0; number < header->e_shnum; ++number) {
    Elf64_Shdr *section, *names;
    at(section, header->e_shoff + number * header->e_shentsize);
    if (section->sh_type != SHT_SYMTAB) continue;
    at(names, header->e_shoff + section->sh_link * header->e_shentsize);
    for (size_t offset = 0; offset < section->sh_size; offset += sizeof(Elf64_Sym)) {
      Elf64_Sym *symbol;
      at(symbol, section->sh_offset + offset);
      if (image.entry != code.data() + names->sh_offset + symbol->st_name) continue;
      symbol->st_shndx = SHN_UNDEF;
      ++changed;
    }
  }
  ASSERT_EQ(changed, 1u);
  EXPECT_NE(refusal(code, image.entry).find("it may not call " + image.entry), std::string::npos)
      << refusal(code, image.entry);
}

/// True where /proc/cpuinfo lists all of these features of this machine.
bool machineHas(const std::string &features) {
  std::ifstream stream("/proc/cpuinfo");
  std::string line;
  while (std::getline(stream, line) && line.rfind("flags", 0) != 0) {
  }
  std::istringstream wanted(features);
  for (std::string feature; wanted >> feature;)
    if ((line + " ").find(" " + feature + " ") == std::string::npos) return false;
  return !line.empty();
}

// What one CPU has no instructions for, code for it does otherwise: conversions, above all. Against the oracle, forward
// and backward.
TEST(ObjectCode, allTypesRunOnAllKindsOfCpu) {
#ifndef __x86_64__
  GTEST_SKIP() << "names CPUs of another kind";
#endif
  const std::string avx2 = "avx2 bmi1 bmi2 fma f16c movbe abm",
                    avx512 = avx2 + " avx512f avx512bw avx512dq avx512cd avx512vl";
  const std::pair<const char *, std::string> cpus[] = {
      {"x86-64", ""},
      {"haswell", avx2},
      {"znver3", avx2 + " sse4a clwb sha_ni"},
      {"skylake-avx512", avx512},
      {"cascadelake", avx512 + " avx512_vnni"},
      {"cooperlake", avx512 + " avx512_vnni avx512_bf16"},
      {"sapphirerapids", avx512 + " avx512_bf16 avx512_fp16 amx_tile amx_bf16"},
      // Has sse4a too, of no use in kernels: others can run these.
      {"znver4", avx512 + " avx512_vnni avx512_bf16 avx512ifma avx512vbmi avx512_vbmi2 avx512_bitalg gfni"}};
  // Half a step of a type's last bit for each rounding of operands, probabilities and results, of sums that take off
  // from one another.
  const std::pair<ElementType, double> types[] = {{ElementType::F32, 1e-5},
                                                  {ElementType::BF16, 0.03},
                                                  {ElementType::F16, 0.004}};
  // The first of all; of bf16 in registers, the others too: rows that fill them and that do not, tiles with keys and
  // queries that are not there, an odd number among these, and few queries.
  struct Case {
    const char *variant;
    Shape shape;
    int tileQ, tileK;
  };
  const Case cases[] = {{"content_weight", {1, 2, 2, 70, 70, 32, 32}, 64, 64},
                        {"causal", {1, 4, 2, 101, 101, 16, 48}, 32, 32},
                        {"adaptive_span", {1, 2, 2, 45, 45, 80, 64}, 16, 64},
                        {"causal", {1, 2, 1, 33, 33, 24, 24}, 48, 48}};
  std::string run, left;
  for (const auto &[cpu, features] : cpus) {
    if (!machineHas(features)) {
      left += std::string(" ") + cpu;
      continue;
    }
    run += std::string(" ") + cpu;
    for (const auto &[type, tolerance] : types)
      for (const Case &own : cases) {
        const bool halves = type == ElementType::BF16 && features.find("avx512_bf16") != std::string::npos;
        if (&own != cases && !halves) continue;
        const Shape &shape = own.shape;
        SCOPED_TRACE(std::string(cpu) + " " + own.variant + " " + weft::name(type) + " " + std::to_string(shape.D));
        const auto variant = variantOf(own.variant);
        auto inputs = randomInputs(*variant, shape, 3);
        for (const InputInfo &input : variant->inputs())
          if (input.isRow)
            for (double &value : inputs[input.name].values) value = rounded(type, value);
        auto cotangent = randomCotangent(shape, 3);
        for (double &value : cotangent) value = rounded(type, value);
        const auto want = reference::evaluate(variant->tree(), inputs, cotangent);
        CallOptions options;
        options.type = type;
        options.target = cpu;
        options.tileQ = own.tileQ, options.tileK = own.tileK;
        const auto got = call(variant, inputs, cotangent, options);
        EXPECT_LT(relativeError(got.o, want.o.values), tolerance);
        for (auto &[input, gradient] : want.gradients)
          EXPECT_LT(relativeError(got.gradients.at(input), gradient.values), tolerance) << input;
      }
  }
  std::printf("ran code for%s; this machine cannot run that for%s\n", run.c_str(),
              left.empty() ? " none" : left.c_str());
}

// A power of two where there is no instruction for it: n goes into the exponent of a polynomial.
TEST(ObjectCode, powersOfTwoOverTheirRange) {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> x{-infinity, -1e30f,  -150,    -127.5f, -127, -126.9f, -126.5f, -126.2f,
                       -126,      -125.5f, -1e-30f, 0,       1,    -0.5f,   0.5f,    1.5f,
                       2.5f,      127,     127.49f, 127.5f,  128,  128.5f,  1e30f,   infinity};
  for (const float edge : {-127.0f, -126.0f, -1.0f, 0.0f, 0.5f, 127.5f, 128.0f})
    for (const float to : {-infinity, infinity}) x.push_back(std::nextafter(edge, to));
  // NaNs with lower bits and with a sign.
  const size_t numbers = x.size();
  for (const uint32_t bits : {0x7fc00000u, 0x7fc00001u, 0x7fffffffu, 0xffc00000u, 0xffc12345u, 0x7f800001u})
    x.push_back(std::bit_cast<float>(bits));
  const auto variant = variantOf(
      "attention t(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E], x: [S]) { score 0  where i == j  gate exp2(x[j]) }");
  const auto count = static_cast<int>(x.size());
  const Shape shape{1, 1, 1, count, count, 16, 16};
  auto inputs = randomInputs(*variant, shape, 3);
  for (double &value : inputs["v"].values) value = 1;
  inputs["x"].values.assign(x.begin(), x.end());
  for (const char *cpu : {"host", "x86-64", "haswell", "skylake-avx512"}) {
    if (!machineHas(cpu == std::string("haswell") ? "avx2 bmi1 bmi2 fma f16c movbe abm"
                    : cpu == std::string("skylake-avx512")
                        ? "avx2 bmi1 bmi2 fma avx512f avx512bw avx512dq avx512cd avx512vl"
                        : ""))
      continue;
    SCOPED_TRACE(cpu);
    CallOptions options;
    options.target = cpu;
    const auto got = call(variant, inputs, {}, options);
    for (size_t at = 0; at < x.size(); ++at) {
      SCOPED_TRACE("2^" + std::to_string(x[at]));
      const float o = got.o[at * 16], want = std::exp2(x[at]);
      if (at >= numbers) EXPECT_TRUE(std::isnan(o)) << o;
      else if (std::isinf(want)) EXPECT_EQ(o, want);
      else if (want < std::numeric_limits<float>::min()) EXPECT_LT(std::abs(o), std::numeric_limits<float>::min());
      else EXPECT_NEAR(o / want, 1, 2.4e-7);  // two units in the last place
    }
  }
}

}  // namespace
}  // namespace weft::testing
