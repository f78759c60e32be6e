// Kernel files: what was kept comes back, any change is found, and what no kernel has is refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <tuple>

#include "runtime/kernel_file.h"
#include "tests/unit/call.h"

namespace weft::testing {
namespace {

CompileRequest requestOf(const std::string &variant, const std::string &kernel, const std::string &target) {
  CompileRequest request;
  request.variant = variantOf(variant);
  request.kernel = kernel;
  request.target = target;
  for (const InputInfo &input : request.variant->inputs())
    if (input.isRow) request.dims[input.dims.back()] = 16;
  request.schedule = defaultSchedule(*request.variant, target, request.dims, kernel.rfind("backward", 0) == 0);
  return request;
}

KernelImage compiled(const CompileRequest &request) {
  CompileResult result = compile(request);
  EXPECT_EQ(result.error, "");
  return result.image;
}

/// What is wrong with a file; empty where it is taken.
std::string wrongWith(const std::string &text, const CompileRequest &request, const std::string &key) {
  try {
    parseKernelFile(text, request, key);
    return "";
  } catch (const std::exception &error) {
    return error.what();
  }
}

constexpr char key[] = "a key\nof two lines";

TEST(KernelFile, givesBackWhatWasKept) {
  for (const char *variant : {"causal", "combiner", "anchor"})
    for (const char *target : {"host", "sm_80"})
      for (const char *kernel : {"forward", "plan_band", "plan_lists", "plan_lists.M", "backward_dkdv.M", "backward",
                                 "pool_0", "select_0", "list_keys"}) {
        const auto names = kernelNames(*variantOf(variant), true);
        // Gradients take long to compile: of one variant.
        if (std::find(names.begin(), names.end(), kernel) == names.end() ||
            (std::string(variant) != "combiner" && std::string(kernel) == "backward"))
          continue;
        const CompileRequest request = requestOf(variant, kernel, target);
        const KernelImage image = compiled(request);
        const std::string text = printKernelFile(image, key);
        ASSERT_EQ(wrongWith(text, request, key), "") << variant << " " << kernel << " " << target;
        const KernelImage again = parseKernelFile(text, request, key);
        EXPECT_EQ(again.code, image.code);
        EXPECT_EQ(again.slots, image.slots);
        EXPECT_EQ(std::tie(again.entry, again.grid, again.keyDim, again.tileQ, again.tileK, again.scratchBytes,
                           again.threads, again.programsPerBlock, again.residents, again.sharedBytes),
                  std::tie(image.entry, image.grid, image.keyDim, image.tileQ, image.tileK, image.scratchBytes,
                           image.threads, image.programsPerBlock, image.residents, image.sharedBytes));
      }
}

TEST(KernelFile, everyByteCounts) {
  const CompileRequest request = requestOf("causal", "plan_band", "host");
  const std::string good = printKernelFile(compiled(request), key);
  ASSERT_EQ(wrongWith(good, request, key), "");
  size_t taken = 0;
  for (size_t at = 0; at < good.size(); ++at)
    for (int change : {1, 4, 0x80}) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ change);
      taken += wrongWith(bad, request, key).empty();
    }
  EXPECT_EQ(taken, 0u);
  for (size_t size = 0; size < good.size(); size += 7) taken += wrongWith(good.substr(0, size), request, key).empty();
  EXPECT_EQ(taken, 0u);
  EXPECT_NE(wrongWith(good + "x", request, key), "");
  EXPECT_EQ(wrongWith(good, request, "another key"), "of another kernel");
}

TEST(KernelFile, holdsOnlyWhatAKernelCanHave) {
  // With digests that are right: what a mistake of our own could write.
  for (const char *target : {"host", "sm_80"}) {
    const CompileRequest request = requestOf("causal", "forward", target);
    const KernelImage good = compiled(request);
    const std::pair<const char *, std::function<void(KernelImage &)>> changes[] = {
        {"entry", [](KernelImage &image) { image.entry = "printf"; }},
        {"entry", [](KernelImage &image) { image.entry = "weft_causal_backward"; }},
        {"kind", [](KernelImage &image) { image.slots[0].kind = static_cast<ArgumentSlot::Kind>(5); }},
        {"maps", [](KernelImage &image) { image.maps.push_back({"q", 100000}); }},
        {"name", [](KernelImage &image) { image.slots[0].name = ""; }},
        {"index", [](KernelImage &image) { image.slots[0].index = -1; }},
        {"index", [](KernelImage &image) { image.slots[0].index = 1000; }},
        {"stride", [](KernelImage &image) { image.slots.push_back({ArgumentSlot::Kind::Stride, "q", 4}); }},
        {"count", [](KernelImage &image) { image.slots.resize(100000, image.slots[0]); }},
        {"grid", [](KernelImage &image) { image.grid = static_cast<Grid>(5); }},
        {"grid", [](KernelImage &image) { image.grid = Grid::Head; }},
        {"keys", [](KernelImage &image) { image.keyDim = "Q"; }},
        {"tiles", [](KernelImage &image) { image.tileQ = 0; }},
        {"tiles", [](KernelImage &image) { image.tileK /= 2; }},
        {"scratch", [](KernelImage &image) { image.scratchBytes = -1; }},
        {"scratch", [](KernelImage &image) { image.scratchBytes = int64_t{1} << 40; }},
        {"threads", [](KernelImage &image) { image.threads = 4096; }},
        {"programs", [](KernelImage &image) { image.programsPerBlock = 0; }},
        {"residents", [](KernelImage &image) { image.residents = -1; }},
        {"residents", [](KernelImage &image) { image.residents = 1000; }},
        {"residents", [](KernelImage &image) { image.residents = 2; }},
        {"shared", [](KernelImage &image) { image.sharedBytes = int64_t{1} << 30; }},
        {"code", [](KernelImage &image) { image.code.clear(); }}};
    ASSERT_EQ(wrongWith(printKernelFile(good, key), request, key), "");
    for (const auto &[name, change] : changes) {
      KernelImage bad = good;
      change(bad);
      EXPECT_NE(wrongWith(printKernelFile(bad, key), request, key), "") << name << " " << target;
    }
  }
}

}  // namespace
}  // namespace weft::testing
