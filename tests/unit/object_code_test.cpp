// Object code in this process: it is entered where it says itself, and reaches nothing of the process that it need not.
#include <gtest/gtest.h>

#include <elf.h>

#include <type_traits>
#include <utility>
#include <vector>

#include "compiler/compiler.h"
#include "runtime/cpu/object_loader.h"
#include "tests/unit/call.h"
#include "tests/unit/inputs.h"

namespace weft::testing {
namespace {

KernelImage compiled(const std::string &variant, const std::string &kernel, const std::string &target, ElementType type = ElementType::F32) {
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
  auto at = [&](auto *&place, size_t offset) { place = reinterpret_cast<std::remove_reference_t<decltype(place)>>(code.data() + offset); };
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
  EXPECT_NE(refusal(code, image.entry).find("it may not call " + image.entry), std::string::npos) << refusal(code, image.entry);
}

/// Functions that a CPU without instructions for them calls by name are there, and right, whatever CPU this is.
TEST(ObjectCode, findsWhatThePlainestCpuCalls) {
#ifndef __x86_64__
  GTEST_SKIP() << "names a CPU of another kind";
#endif
  const auto variant = variantOf("span_periodic");
  const auto inputs = randomInputs(*variant, {1, 1, 1, 40, 40, 16, 16}, 3);
  // Twice the half step of a type's last bit, of values near 1.
  const std::pair<ElementType, double> types[] = {{ElementType::F32, 1e-5}, {ElementType::BF16, 1.0 / 128}, {ElementType::F16, 1.0 / 1024}};
  for (const auto &[type, tolerance] : types) {
    CallOptions options;
    options.type = type;
    const auto host = call(variant, inputs, {}, options).o;
    options.target = "x86-64";
    const auto plain = call(variant, inputs, {}, options).o;
    EXPECT_LT(relativeError(plain, std::vector<double>(host.begin(), host.end())), tolerance) << name(type);
  }
}

}  // namespace
}  // namespace weft::testing
