// The CUDA path up to the driver, which is a fake one (fake_cuda.cpp): what is assembled, what is loaded when a cubin
// is refused, what every kernel's default schedule asks of a device.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include "compiler/default_schedule.h"
#include "runtime/cuda/driver.h"
#include "runtime/device.h"
#include "runtime/kernel_cache.h"
#include "runtime/ptxas.h"
#include "runtime/tensor_map.h"
#include "tests/unit/call.h"
#include "tests/unit/inputs.h"

namespace weft::testing {
namespace {

namespace fs = std::filesystem;

class Cuda : public ::testing::Test {
 protected:
  void SetUp() override {
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    if (library) {
      record = reinterpret_cast<const char *(*)()>(dlsym(library, "weftFakeRecord"));
      forget = reinterpret_cast<void (*)()>(dlsym(library, "weftFakeForget"));
    }
    if (!record) GTEST_SKIP() << "the fake driver is not on LD_LIBRARY_PATH (ctest puts it there)";
    forget();
    unsetenv("WEFT_FAKE_CAPABILITY");
  }
  const char *(*record)() = nullptr;
  void (*forget)() = nullptr;

  /// What the driver was asked for to load the kernel of a text that no other test has.
  std::string loading(int capability, const std::string &number) {
    setenv("WEFT_FAKE_CAPABILITY", std::to_string(capability).c_str(), 1);
    forget();
    CompileRequest request;
    request.variant =
        variantOf("attention c" + number + "(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E]) { score dot(q[i], k[j]) * " +
                  number + " }");
    request.dims = {{"D", 16}, {"E", 16}};
    loadKernel(request, {Device::Kind::Cuda, 0});
    return record();
  }
};

constexpr Device gpu{Device::Kind::Cuda, 0};

TEST_F(Cuda, codeIsGeneratedForAllGpusAndAssembledForTheOneAtHand) {
  for (int capability : {80, 86, 90, 120, 130}) {
    setenv("WEFT_FAKE_CAPABILITY", std::to_string(capability).c_str(), 1);
    EXPECT_EQ(targetOf(gpu), "sm_80");
    EXPECT_EQ(architectureOf(gpu), "sm_" + std::to_string(capability));
  }
  setenv("WEFT_FAKE_CAPABILITY", "75", 1);
  EXPECT_THROW(targetOf(gpu), std::runtime_error);
}

TEST_F(Cuda, cubinsAreOfTheDevicesArchitecture) {
  if (findPtxas().empty()) GTEST_SKIP() << "ptxas is not installed; WEFT_PTXAS may name it";
  EXPECT_EQ(loading(90, "11"), "cubin sm_90\n");
  EXPECT_EQ(loading(80, "12"), "cubin sm_80\n");
  EXPECT_EQ(loading(120, "13"), "cubin sm_120\n");
}

TEST_F(Cuda, ptxIsLoadedWhereNoCubinCanBeMade) {
  EXPECT_EQ(loading(139, "21"), "ptx\n");  // no ptxas knows it
  const char *before = std::getenv("WEFT_PTXAS");
  const std::string kept = before ? before : "";
  setenv("WEFT_PTXAS", "/nowhere/ptxas", 1);
  EXPECT_EQ(loading(90, "22"), "ptx\n");
  if (before) setenv("WEFT_PTXAS", kept.c_str(), 1);
  else unsetenv("WEFT_PTXAS");
}

TEST_F(Cuda, ptxIsLoadedWhereTheDriverRefusesTheCubin) {
  // An assembler that makes cubins of another architecture than asked for.
  const std::string ptxas = findPtxas();
  if (ptxas.empty()) GTEST_SKIP() << "ptxas is not installed; WEFT_PTXAS may name it";
  const fs::path wrong = fs::path(cacheDirectory()) / "wrong_ptxas";
  fs::create_directories(wrong.parent_path());
  std::ofstream(wrong) << "#!/bin/sh\nshift\nexec " << ptxas << " -arch=sm_80 \"$@\"\n";
  fs::permissions(wrong, fs::perms::owner_all);
  const char *before = std::getenv("WEFT_PTXAS");
  const std::string kept = before ? before : "";
  setenv("WEFT_PTXAS", wrong.c_str(), 1);
  EXPECT_EQ(loading(90, "31"), "refused cubin sm_80\nptx\n");
  if (before) setenv("WEFT_PTXAS", kept.c_str(), 1);
  else unsetenv("WEFT_PTXAS");
}

TEST_F(Cuda, whatTheDriverSaysOfBadCodeIsInTheError) {
  try {
    const cuda::Function function(0, "no ptx at all", "no ptx at all", "nothing", 0);
    FAIL();
  } catch (const std::exception &error) {
    EXPECT_NE(std::string(error.what()).find("CUDA_ERROR_INVALID_PTX"), std::string::npos) << error.what();
  }
}

TEST_F(Cuda, tensorMapsAreEncodedByTheDriver) {
  TensorMap map;
  map.type = TensorMap::Type::BF16;
  map.rank = 3;
  map.address = 4096;
  map.sizes = {64, 1000, 8};
  map.strides = {0, 1024, 128};
  map.box = {64, 128, 1};
  map.swizzle = Swizzle::Bytes128;
  setenv("WEFT_FAKE_CAPABILITY", "90", 1);
  EXPECT_EQ(encode(map, gpu).bytes, encode(map, {Device::Kind::PtxEmulator, 90}).bytes);
  EXPECT_EQ(std::string(record()), "tensor map\n");
  map.box[0] = 128;
  EXPECT_THROW(encode(map, gpu), std::runtime_error);
  map.box[0] = 64;
  setenv("WEFT_FAKE_CAPABILITY", "89", 1);
  EXPECT_THROW(encode(map, gpu), std::runtime_error);
}

TEST_F(Cuda, moreBlocksThanAGridHoldsAreRefused) {
  CompileRequest request;
  request.variant = variantOf("causal");
  request.dims = {{"D", 16}, {"E", 16}};
  const auto kernel = loadKernel(request, gpu);
  const std::vector<int64_t> slots(kernel->image().slots.size());
  const int64_t most = int64_t{kernel->image().programsPerBlock} * std::numeric_limits<int32_t>::max();
  forget();
  try {
    kernel->run(slots.data(), most + 1, {});
    FAIL();
  } catch (const std::runtime_error &error) {
    EXPECT_NE(std::string(error.what()).find("at most 2147483647 at once; split the batch"), std::string::npos)
        << error.what();
  }
  EXPECT_EQ(std::string(record()), "");  // not launched with what is left of the number in 32 bits
}

/// Kernels that may run with a schedule of one direction.
bool isOf(const std::string &kernel, bool backward) {
  return backward ? kernel.rfind("backward", 0) == 0 : kernel.rfind("backward", 0) != 0;
}

TEST(DefaultSchedules, fitEveryDevice) {
  size_t checked = 0, tables = 0;
  std::map<int, int> tilesOf;
  for (const std::string &name : libraryVariants()) {
    const auto variant = variantOf(name);
    for (ElementType type : {ElementType::F32, ElementType::BF16, ElementType::F16})
      for (int64_t width : {64, 128, 256}) {
        if (type == ElementType::F16 && width != 256) continue;  // tiles as of bf16
        std::map<std::string, int64_t> dims;
        for (const InputInfo &input : variant->inputs())
          if (input.isRow) dims[input.dims.back()] = input.dims.back() == "R" ? 16 : width;
        for (bool backward : {false, true}) {
          const Schedule schedule =
              defaultSchedule(*variant, "sm_86", dims, backward, type, limitsOfArchitecture(8, 6).sharedBytesPerBlock);
          ++tables;
          ++tilesOf[schedule.tileQ];
          EXPECT_EQ(illegal(schedule, *variant), "") << name;
          EXPECT_TRUE(fitsShared(*variant, "sm_80", dims, type, schedule, backward, 101376))
              << name << " " << weft::name(type) << " " << width << (backward ? " backward" : "");
          ++checked;
        }
      }
  }
  EXPECT_EQ(checked, tables);
  EXPECT_GT(checked, 400u);
  // Not all as small as can be: the rule chooses.
  EXPECT_GT(tilesOf[64], 0);
  EXPECT_GT(tilesOf[32], 0);
  EXPECT_GT(tilesOf[16], 0);
}

TEST(DefaultSchedules, areAsLargeAsTheDeviceAllows) {
  const auto variant = variantOf("causal");
  auto tiles = [&](ElementType type, int64_t width, int64_t bytes) {
    const Schedule own = defaultSchedule(*variant, "sm_80", {{"D", width}, {"E", width}}, false, type, bytes);
    return std::pair{own.tileQ, own.stages};
  };
  // A tile ahead where two blocks fit beside each other with it.
  EXPECT_EQ(tiles(ElementType::BF16, 64, 101376), (std::pair{128, 1}));
  EXPECT_EQ(tiles(ElementType::BF16, 64, 166912), (std::pair{128, 2}));
  EXPECT_EQ(tiles(ElementType::BF16, 128, 166912), (std::pair{128, 1}));
  EXPECT_EQ(tiles(ElementType::BF16, 128, 232448), (std::pair{128, 2}));
  EXPECT_EQ(tiles(ElementType::F32, 128, 101376), (std::pair{64, 1}));
  EXPECT_EQ(tiles(ElementType::F32, 128, 232448), (std::pair{64, 2}));
  EXPECT_EQ(tiles(ElementType::F32, 256, 101376), (std::pair{32, 1}));
}

/// fitsShared looks at a kernel without its code: the images of those that ask for most say the same.
TEST(DefaultSchedules, sharedMemoryIsWhatTheCodeAsksFor) {
  size_t checked = 0;
  for (const char *name :
       {"causal", "content_sparse", "combiner", "gathered", "stick_breaking", "span_periodic", "nsa"}) {
    const auto variant = variantOf(name);
    std::map<std::string, int64_t> dims;
    for (const InputInfo &input : variant->inputs())
      if (input.isRow) dims[input.dims.back()] = input.dims.back() == "R" ? 16 : 48;
    for (ElementType type : {ElementType::F32, ElementType::BF16})
      for (bool backward : {false, true}) {
        CompileRequest request;
        request.variant = variant;
        request.dims = dims;
        request.type = type;
        request.target = "sm_80";
        request.stage = Stage::Vector;
        request.schedule.tileQ = request.schedule.tileK = 32;
        request.schedule.stages = 3;
        request.schedule.form = BackwardForm::FusedKeys;
        request.schedule = fitted(request.schedule, *variant);
        int64_t most = 0;
        for (const std::string &kernel : kernelNames(*variant, true, true)) {
          if (!isOf(kernel, backward)) continue;
          request.kernel = kernel;
          const CompileResult result = compile(request);
          ASSERT_EQ(result.error, "") << name << " " << kernel;
          most = std::max(most, result.image.sharedBytes);
          ++checked;
        }
        EXPECT_TRUE(fitsShared(*variant, "sm_80", dims, type, request.schedule, backward, most)) << name;
        EXPECT_FALSE(fitsShared(*variant, "sm_80", dims, type, request.schedule, backward, most - 1)) << name;
      }
  }
  EXPECT_GT(checked, 50u);
}

}  // namespace
}  // namespace weft::testing
