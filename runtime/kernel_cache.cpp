#include "runtime/kernel_cache.h"

#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <sstream>

#include <nlohmann/json.hpp>

#include "runtime/atomic_file.h"
#include "runtime/cpu/denormals.h"
#include "runtime/cpu/object_loader.h"
#include "runtime/cpu/thread_pool.h"
#include "runtime/cuda/driver.h"
#include "runtime/environment.h"
#include "runtime/log.h"
#include "runtime/ptx_emulator/emulator.h"
#include "runtime/ptxas.h"

namespace weft {
namespace {

namespace fs = std::filesystem;

/// Everything that can change the code, as text.
std::string keyOf(const CompileRequest &request) {
  std::ostringstream key;
  static const std::string host = hostIdentity();
  key << buildIdentity() << '\n' << (isGpu(request.target) ? "" : host) << '\n' << request.target << ' ' << describe(request.schedule, request.target) << '\n'
      << request.kernel << (request.paged ? " paged" : "") << '\n' << name(request.type) << '\n';
  for (const auto &[dim, size] : request.dims) key << dim << '=' << size << ' ';
  key << '\n' << request.variant->source();
  return key.str();
}

constexpr char magic[] = "weftkernel2\n";

nlohmann::json describe(const KernelImage &image, const std::string &key) {
  nlohmann::json slots = nlohmann::json::array();
  for (const ArgumentSlot &slot : image.slots)
    slots.push_back({static_cast<int>(slot.kind), slot.name, slot.index});
  return {{"key", key},
          {"entry", image.entry},
          {"slots", slots},
          {"grid", static_cast<int>(image.grid)},
          {"keyDim", image.keyDim},
          {"tileQ", image.tileQ},
          {"tileK", image.tileK},
          {"scratchBytes", image.scratchBytes},
          {"threads", image.threads},
          {"programsPerBlock", image.programsPerBlock},
          {"sharedBytes", image.sharedBytes},
          {"codeBytes", image.code.size()},
          {"codeHash", hashText(image.code)}};
}

/// File: magic, length of the header in decimal and a line break, header (JSON), code.
std::string serialize(const KernelImage &image, const std::string &key) {
  const std::string header = describe(image, key).dump();
  return magic + std::to_string(header.size()) + "\n" + header + image.code;
}

/// Throws std::exception where the text is not a whole entry for `key`.
KernelImage deserialize(const std::string &text, const std::string &key) {
  auto demand = [](bool ok, const char *what) {
    if (!ok) throw std::runtime_error(what);
  };
  const size_t start = std::strlen(magic);
  demand(text.compare(0, start, magic) == 0, "not a kernel file");
  const size_t lineEnd = text.find('\n', start);
  demand(lineEnd != std::string::npos && lineEnd - start < 12, "no header");
  const size_t headerSize = std::stoul(text.substr(start, lineEnd - start));
  demand(text.size() >= lineEnd + 1 + headerSize, "truncated header");
  const auto header = nlohmann::json::parse(text.substr(lineEnd + 1, headerSize));
  demand(header.at("key") == key, "of another kernel");
  KernelImage image;
  image.code = text.substr(lineEnd + 1 + headerSize);
  demand(image.code.size() == header.at("codeBytes").get<size_t>(), "truncated code");
  demand(hashText(image.code) == header.at("codeHash").get<std::string>(), "damaged code");
  image.entry = header.at("entry");
  for (const auto &slot : header.at("slots"))
    image.slots.push_back({static_cast<ArgumentSlot::Kind>(slot.at(0).get<int>()),
                           slot.at(1).get<std::string>(), slot.at(2).get<int>()});
  image.grid = static_cast<Grid>(header.at("grid").get<int>());
  image.keyDim = header.at("keyDim");
  image.tileQ = header.at("tileQ");
  image.tileK = header.at("tileK");
  image.scratchBytes = header.at("scratchBytes");
  image.threads = header.at("threads");
  image.programsPerBlock = header.at("programsPerBlock");
  image.sharedBytes = header.at("sharedBytes");
  return image;
}

/// Failure is logged once, not fatal.
void keep(const fs::path &path, const std::string &text) {
  static std::once_flag warned;
  const std::string reason = replaceFile(path, text);
  if (reason.empty()) return;
  std::call_once(warned, [&] {
    log().warn("kernels cannot be kept in {}: {}; they are compiled anew in each process", path.parent_path().string(), reason);
  });
}

KernelImage obtain(const CompileRequest &request, const std::string &key) {
  const fs::path path = fs::path(cacheDirectory()) / "kernels" / (hashText(key) + ".weftkernel");
  std::string text;
  if (readFile(path, text)) {
    try {
      return deserialize(text, key);
    } catch (const std::exception &error) {
      log().warn("ignoring {}: {}; it is rebuilt", path.string(), error.what());
    }
  }
  CompileRequest own = request;
  own.stage = Stage::Object;
  if (own.dumpDirectory.empty()) own.dumpDirectory = environment::dumpDirectory();
  CompileResult result = compile(own);
  if (!result.error.empty()) throw std::runtime_error(result.error);
  log().debug("compiled {}.{}", request.variant->name(), request.kernel);
  keep(path, serialize(result.image, key));
  return std::move(result.image);
}

class CpuKernel final : public LoadedKernel {
 public:
  CpuKernel(KernelImage own, cpu::KernelFunction function) : LoadedKernel(std::move(own)), function(function) {}

  void run(const int64_t *slots, int64_t programs, const LaunchContext &context) const override {
    const int64_t bytes = std::max(image().scratchBytes, context.workspaceBytes);
    cpu::parallelFor(programs, context.threads, [&](int64_t begin, int64_t end, int) {
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
      const cpu::FlushDenormals flush;
      function(slots, begin, end, scratch.memory);
    });
  }

 private:
  cpu::KernelFunction function;
};

int64_t blocksOf(const KernelImage &image, int64_t programs) {
  return (programs + image.programsPerBlock - 1) / image.programsPerBlock;
}

class EmulatedKernel final : public LoadedKernel {
 public:
  EmulatedKernel(KernelImage own, const Device &device, const std::string &ptx)
      : LoadedKernel(std::move(own)), module(ptx), capability(capabilityOf(device)) {}

  void run(const int64_t *slots, int64_t programs, const LaunchContext &context) const override {
    ptx::Launch launch{blocksOf(image(), programs), image().threads, image().sharedBytes, {}, context.memory, capability};
    launch.parameters.resize(std::max<size_t>(image().slots.size(), 1) * sizeof(int64_t));
    std::memcpy(launch.parameters.data(), slots, image().slots.size() * sizeof(int64_t));
    const EmulatorReport report = module.run(image().entry, launch, context.threads);
    if (context.report) *context.report += report;
  }

 private:
  ptx::Module module;
  int capability;
};

class CudaKernel final : public LoadedKernel {
 public:
  CudaKernel(KernelImage own, const Device &device, const std::string &ptx)
      : LoadedKernel(std::move(own)), function(device.index, deviceCode(ptx, architectureOf(device)), ptx, image().entry, image().sharedBytes) {}

  void run(const int64_t *slots, int64_t programs, const LaunchContext &context) const override {
    function.launch(blocksOf(image(), programs), image().threads, context.stream, slots);
  }

 private:
  cuda::Function function;
};

std::shared_ptr<const LoadedKernel> load(KernelImage image, const Device &device) {
  const std::string code = std::move(image.code);
  image.code.clear();
  switch (device.kind) {
    case Device::Kind::PtxEmulator: return std::make_shared<EmulatedKernel>(std::move(image), device, code);
    case Device::Kind::Cuda: return std::make_shared<CudaKernel>(std::move(image), device, code);
    case Device::Kind::Cpu: break;
  }
  cpu::KernelFunction function = cpu::loadObject(code, image.entry);
  return std::make_shared<CpuKernel>(std::move(image), function);
}

}  // namespace

void setExecutor(Executor executor) { cpu::useExecutor(executor); }

std::string cacheDirectory() { return environment::cacheDirectory(); }

std::shared_ptr<const LoadedKernel> loadKernel(const CompileRequest &request, const Device &device) {
  static std::mutex mutex;
  static std::map<std::string, std::shared_ptr<const LoadedKernel>> loaded;
  CompileRequest own = request;
  if (own.target == "host") own.target = targetOf(device);
  own.schedule.form = BackwardForm::Automatic;  // of no kernel
  const std::string key = keyOf(own), place = name(device) + "\n" + key;
  {
    std::lock_guard lock(mutex);
    if (auto found = loaded.find(place); found != loaded.end()) return found->second;
  }
  auto kernel = load(obtain(own, key), device);
  std::lock_guard lock(mutex);
  return loaded.try_emplace(place, std::move(kernel)).first->second;
}

}  // namespace weft
