#include "runtime/cpu/backend.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <stdexcept>
#include <tuple>

#include "compiler/runnable.h"
#include "runtime/cpu/denormals.h"
#include "runtime/cpu/emulated_kernel.h"
#include "runtime/cpu/object_loader.h"
#include "runtime/cpu/roof.h"
#include "runtime/cpu/thread_pool.h"
#include "runtime/environment.h"

namespace weft::cpu {
namespace {

class CpuKernel final : public LoadedKernel {
 public:
  CpuKernel(KernelImage own, KernelFunction function) : LoadedKernel(std::move(own)), function(function) {}

  void run(const int64_t *arguments, int64_t programs, const LaunchContext &context) const override {
    const int64_t bytes = std::max(image().scratchBytes, context.workspaceBytes);
    parallelFor(programs, context.threads, [&](int64_t begin, int64_t end, int) {
      // Kept by each thread, grown to the largest kernel it has run.
      struct Scratch {
        void *memory = nullptr;
        int64_t size = 0;
        ~Scratch() { std::free(memory); }
      };
      thread_local Scratch scratch;
      if (scratch.size < bytes) {
        std::free(scratch.memory);
        scratch.memory = std::aligned_alloc(64, static_cast<size_t>((bytes + 63) / 64 * 64));
        scratch.size = scratch.memory ? bytes : 0;
        if (!scratch.memory) throw std::bad_alloc();
      }
      const FlushDenormals flush;
      function(arguments, begin, end, scratch.memory);
    });
  }

 private:
  KernelFunction function;
};

class Backend final : public DeviceBackend {
 public:
  std::vector<std::string> forms() const override { return {"cpu"}; }
  std::optional<int> parse(const std::string &name) const override {
    return name == "cpu" ? std::optional(0) : std::nullopt;
  }
  std::string name(int) const override { return "cpu"; }

  int capability(int) const override { return 0; }
  std::string identity(int) const override {
    const std::string own = environment::cpu();
    return own == "host" ? hostIdentity() : own + " on " + hostIdentity();
  }
  std::string refusal(const std::string &target) const override {
    const std::string begin = "WEFT_CPU: kernels for " + target + " can be compiled and looked at here, not run: ";
    if (!isOfThisArchitecture(target))
      return environment::cpuEmulator().empty()
                 ? begin + "it is of another architecture (WEFT_CPU_EMULATOR names a program that runs them)"
                 : "";
    const std::string missing = missingFeatures(target);
    return missing.empty() ? "" : begin + "this CPU has no " + missing;
  }
  std::shared_ptr<const LoadedKernel> load(KernelImage image, const std::string &code, int) const override {
    if (isEmulated()) return loadEmulated(std::move(image), code, environment::cpuEmulator());
    const KernelFunction function = loadObject(code, image.entry);
    return std::make_shared<CpuKernel>(std::move(image), function);
  }

  EncodedTensorMap encode(const TensorMap &, int) const override {
    throw std::runtime_error("tensor map: a CPU has no bulk tensor copies");
  }

  std::optional<Roof> arithmeticRoof(int, ElementType type, int threads, bool again) const override {
    if (isEmulated()) return std::nullopt;
    static std::mutex mutex;
    static std::map<std::tuple<std::string, ElementType, int>, Roof> known;
    std::lock_guard lock(mutex);
    Roof &roof = known[{environment::cpu(), type, threads}];
    if (roof.rate == 0 || again)
      if (Roof now = measureArithmetic(type, threads); now.rate > roof.rate) roof = now;
    return roof;
  }
  std::optional<Roof> memoryRoof(int, int threads) const override {
    static std::mutex mutex;
    static std::map<int, Roof> known;
    std::lock_guard lock(mutex);
    Roof &roof = known[threads];
    if (roof.rate == 0) roof = measureMemory(threads);
    return roof;
  }
};

}  // namespace

bool isEmulated() { return !isOfThisArchitecture(environment::cpu()); }

const DeviceBackend &backend() {
  static const Backend own;
  return own;
}

}  // namespace weft::cpu
