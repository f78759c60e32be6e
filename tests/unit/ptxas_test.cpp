// Every kernel of every library variant through NVIDIA's assembler, where it is installed: no error, no spill, and
// nothing that it is known to get wrong.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <thread>
#include <vector>

#include "autotune/timeline/paths.h"
#include "compiler/default_schedule.h"
#include "runtime/device.h"
#include "runtime/kernel_cache.h"
#include "runtime/ptxas.h"
#include "tests/unit/call.h"

namespace weft::testing {
namespace fs = std::filesystem;
namespace {

/// A register of which two bits are tested, or "". ptxas (12.4 to 13.5) may make one instruction of the tests (R2P),
/// keep one of its predicates, and take the other's from elsewhere: seen on an H200 as wrong signs of sines.
std::string testedTwice(const std::string &ptx) {
  std::set<std::string> tested;
  struct Bit {
    std::string from, number, to;
  };
  std::vector<Bit> bits;
  std::istringstream lines(ptx);
  for (std::string line; std::getline(lines, line);) {
    if (line.find("and.b") == std::string::npos && line.find("setp.") == std::string::npos) continue;
    std::replace(line.begin(), line.end(), ',', ' ');
    std::istringstream words(line.substr(0, line.find(';')));
    std::string what, to, from, number;
    words >> what >> to >> from >> number;
    if (what.rfind("setp.", 0) == 0 && number == "0") tested.insert(from);
    if (what.rfind("and.b", 0) == 0 && std::isdigit(number[0]) && std::has_single_bit(std::stoull(number)))
      bits.push_back({from, number, to});
  }
  std::map<std::string, std::string> first;
  for (const Bit &bit : bits)
    if (tested.count(bit.to) && first.try_emplace(bit.from, bit.number).first->second != bit.number) return bit.from;
  return "";
}

struct Job {
  std::shared_ptr<const Variant> variant;
  std::string kernel, target;
  ElementType type;
  int64_t width;
};

CompileResult assembly(const Job &job) {
  CompileRequest request;
  request.variant = job.variant;
  request.kernel = job.kernel;
  request.target = job.target;
  request.type = job.type;
  for (const InputInfo &input : job.variant->inputs())
    if (input.isRow) request.dims[input.dims.back()] = input.dims.back() == "R" ? 16 : job.width;
  const int capability = std::stoi(job.target.substr(3));
  request.schedule =
      defaultSchedule(*job.variant, job.target, request.dims, job.kernel.rfind("backward", 0) == 0, job.type,
                      limitsOfArchitecture(capability / 10, capability % 10).sharedBytesPerBlock);
  request.stage = Stage::Assembly;
  return compile(request);
}

TEST(Ptxas, everyKernelAssemblesWithoutSpills) {
  if (findPtxas().empty()) GTEST_SKIP() << "ptxas is not installed; WEFT_PTXAS may name it";
  const struct {
    const char *target;
    ElementType type;
    int64_t width;
  } kinds[] = {{"sm_80", ElementType::BF16, 64},  {"sm_90a", ElementType::BF16, 64}, {"sm_120", ElementType::BF16, 64},
               {"sm_80", ElementType::BF16, 128}, {"sm_80", ElementType::F32, 64},   {"sm_80", ElementType::F16, 64},
               {"sm_80", ElementType::F32, 128},  {"sm_90a", ElementType::BF16, 128}};
  std::vector<Job> jobs;
  for (const auto &file : std::filesystem::directory_iterator(WEFT_VARIANTS)) {
    auto variant = variantOf(file.path().stem());
    // f16 takes the registers that bf16 takes, f32 spills by design, and sm_120 has the code of sm_80: some variants.
    // Of wide tiles of warpgroups those that differ most.
    const std::set<std::string> some{"causal", "span_periodic", "content_weight", "stick_breaking", "nsa", "soft_cap"};
    for (const auto &kind : kinds) {
      const std::string target = kind.target;
      const bool sample =
          kind.type != ElementType::BF16 || target == "sm_120" || (kind.width > 64 && target == "sm_90a");
      if (sample && !some.count(variant->name())) continue;
      // Those that run only where somebody asks for them take as many registers as they will: of one kind.
      const bool twoPass = variant->hasTwoPassBackward(false), all = target == "sm_90a" && !sample;
      for (const std::string &kernel : kernelNames(*variant, true, true)) {
        const bool chosen =
            kernel.starts_with("backward_keys") || (twoPass && (kernel == "backward" || kernel == "backward_queries"));
        if (chosen ? all : !sample || kernel.rfind("plan", 0) != 0)
          jobs.push_back({variant, kernel, kind.target, kind.type, kind.width});
      }
    }
  }
  std::atomic<size_t> next{0};
  std::mutex mutex;
  size_t assembled = 0;
  auto work = [&] {
    for (size_t at = next++; at < jobs.size(); at = next++) {
      const Job &job = jobs[at];
      const std::string what = job.variant->name() + "." + job.kernel + " " + job.target + " " + name(job.type) + " " +
                               std::to_string(job.width);
      const CompileResult result = assembly(job);
      std::string error = result.error;
      {
        std::lock_guard lock(mutex);
        ++assembled;
      }
      int64_t spilled = 0;
      if (error.empty()) try {
          const Assembled assembled = assemble(result.text, job.target);
          spilled = assembled.spillBytes;
          // C7510 to C7515: products of warpgroups that wait for one another, each for its own reason.
          if (assembled.log.find("serialized") != std::string::npos) error = assembled.log;
        } catch (const std::exception &caught) {
          error = caught.what();
        }
      // Known: f32, which adds the sums of each step itself (Warp::mmaSplit) and takes registers for it: precision goes
      // first. In bf16, at a width of 128, gradients of three products, of four indices a pair, of running sums along
      // the keys, of lists of keys in one pass, and of masks that take a few registers more.
      const std::set<std::string> full{
          "content_weight", "content_sparse", "bucket",        "hyper",         "stick_breaking",       "anchor",
          "stripes",        "gathered",       "relative_bias", "span_periodic", "span_periodic_sorted", "sparse_vdit",
          "power",          "adaptive_span"};
      const bool known = job.type == ElementType::F32 || (job.width > 64 && full.count(job.variant->name())) ||
                         job.variant->name() == "span_periodic";
      const bool fused = job.kernel == "backward" || job.kernel == "backward_queries";
      if (fused && job.variant->hasTwoPassBackward(false)) continue;
      // Its tiles are a tuner's; the default's are those of two passes.
      const bool tuned = job.kernel.starts_with("backward_keys");
      const std::string twice = testedTwice(result.text);
      std::lock_guard lock(mutex);
      EXPECT_EQ(error, "") << what;
      EXPECT_EQ(twice, "") << what;
      // Programs over keys are faster with some words spilled than with smaller tiles (by the timing model), and so is
      // forward at a width of 128; elsewhere a few words of a thread.
      if (tuned) continue;
      // Warps that copy alone (setmaxnreg) have few registers, and of lists a few words too many; at a width of 128 the
      // others as well, with gradients of both k and v.
      const bool roles = result.text.find("setmaxnreg") != std::string::npos;
      if (roles) EXPECT_LE(spilled, job.width == 64 ? 150 : 200) << what;
      else if (job.width > 64 && job.kernel == "forward" && job.type != ElementType::F32)
        EXPECT_LE(spilled, 650) << what;
      else if (!known) EXPECT_LE(spilled, job.kernel.starts_with("backward_dkdv") ? 450 : 32) << what;
      else EXPECT_LT(spilled, job.type != ElementType::F32 ? 450 : job.width == 64 ? 400 : fused ? 3300 : 1300) << what;
    }
  };
  std::thread other(work);
  work();
  other.join();
  EXPECT_EQ(assembled, jobs.size());
  EXPECT_GT(assembled, 300u);
}

struct Loop {
  timeline::Code code;
  timeline::Paths paths;

  explicit Loop(const std::string &cubin) : code(timeline::readSass(disassemble(cubin))), paths(findPaths(code)) {}
  bool is(int at, const char *opcode) const { return code.instructions[at].opcode.starts_with(opcode); }
  /// In both its ways; barriers of turns are no others'.
  size_t count(const char *opcode) const {
    size_t found = 0;
    for (const timeline::Path *path : {&paths.full, &paths.partial})
      for (const int at : *path) found += is(at, opcode) && !code.instructions[at].ofTurns;
    return found;
  }
  /// Exponentials that a whole turn computes while its last product is under way.
  size_t besideLastProduct() const {
    size_t since = 0, beside = 0;
    bool product = false;
    for (const int at : paths.full) {
      if (is(at, "HGMMA")) product = true, since = beside = 0;
      else if (is(at, "MUFU.EX2")) ++since;
      else if (product && is(at, "WARPGROUP.DEPBAR")) beside = since;
    }
    return beside;
  }
};

TEST(Ptxas, loopsOfHopperAreOfWarpgroups) {
  if (findPtxas().empty()) GTEST_SKIP() << "ptxas is not installed; WEFT_PTXAS may name it";
  for (const int64_t width : {64, 128})
    for (const auto &[name, kernel] : {std::pair{"causal", "forward"},
                                       {"sliding_window", "forward"},
                                       {"soft_cap", "forward"},
                                       {"causal", "backward_dq"},
                                       {"causal", "backward_dkdv"}}) {
      const std::string what = std::string(name) + " " + kernel + " " + std::to_string(width);
      const CompileResult result = assembly({variantOf(name), kernel, "sm_90a", ElementType::BF16, width});
      ASSERT_EQ(result.error, "") << what;
      const Loop loop(assemble(result.text, "sm_90a").cubin);
      EXPECT_GT(loop.count("HGMMA"), 0u) << what;
      for (const char *other : {"HMMA", "LDL", "STL", "LDGSTS", "BAR"})
        EXPECT_EQ(loop.count(other), 0u) << what << " " << other;
      if (kernel == std::string("forward")) EXPECT_GE(loop.besideLastProduct(), 32u) << what;
    }
  // There is something to be found: code for every GPU multiplies otherwise.
  const CompileResult result = assembly({variantOf("causal"), "forward", "sm_80", ElementType::BF16, 64});
  const Loop loop(assemble(result.text, "sm_90").cubin);
  EXPECT_EQ(loop.count("HGMMA"), 0u);
  EXPECT_GT(loop.count("HMMA"), 0u);
}

TEST(Ptxas, noRegisterIsTestedForTwoBits) {
  EXPECT_EQ(testedTwice(
                "and.b32 %r2, %r1, 1;\nsetp.ne.b32 %p1, %r2, 0;\nand.b32 %r3, %r1, 2;\nsetp.eq.b32 %p2, %r3, 0;\n"),
            "%r1");
  auto variant = variantOf(
      "attention bits(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E], r: [B,H,T], table: [H,N], m: bool [S], n: int [S]) { "
      "where m[j] or not m[i] or n[j] mod 4 == 2 score dot(q[i], k[j]) + sin(exp(tanh(r[i]))) * cos(r[j]) "
      "weight 2 + cos(table[h, i - j + S]) gate tanh(sin(table[h, i - j + S])) dropout 0.25 }");
  for (const std::string &kernel : kernelNames(*variant, true, true)) {
    const CompileResult result = assembly({variant, kernel, "sm_80", ElementType::F32, 64});
    ASSERT_EQ(result.error, "") << kernel;
    EXPECT_EQ(testedTwice(result.text), "") << kernel;
  }
}

TEST(Ptxas, cubinsAreKept) {
  if (findPtxas().empty()) GTEST_SKIP() << "no ptxas: cubins are not checked";
  const std::string ptx = ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry kept() { ret; }\n";
  const fs::path folder = fs::path(cacheDirectory()) / "cubins";
  fs::remove_all(folder);
  const std::string first = deviceCode(ptx, "sm_80");
  EXPECT_EQ(first.substr(1, 3), "ELF");
  ASSERT_EQ(std::distance(fs::directory_iterator(folder), {}), 1);
  const fs::path file = fs::directory_iterator(folder)->path();
  const auto written = fs::last_write_time(file);
  EXPECT_EQ(deviceCode(ptx, "sm_80"), first);
  EXPECT_EQ(fs::last_write_time(file), written);  // read, not made again
  std::ofstream(file, std::ios::app) << "damage";
  EXPECT_EQ(deviceCode(ptx, "sm_80"), first);
  EXPECT_EQ(deviceCode("no PTX", "sm_80"), "no PTX");  // left to the driver, with a warning
}

TEST(Ptxas, sayWhatIsWrong) {
  if (findPtxas().empty()) GTEST_SKIP() << "ptxas is not installed; WEFT_PTXAS may name it";
  try {
    assemble("this is no ptx", "sm_80");
    FAIL();
  } catch (const std::exception &error) {
    EXPECT_NE(std::string(error.what()).find("-arch=sm_80"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace weft::testing
