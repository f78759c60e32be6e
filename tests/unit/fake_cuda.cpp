// A libcuda.so.1 without a GPU: takes PTX and cubins of its own architecture, remembers what it was asked for, and
// executes PTX on the emulator. Found by the driver's loader through LD_LIBRARY_PATH.
//
// WEFT_FAKE_CAPABILITY: 10 times major and minor, read at each question; 90 where it is not set.
#include "tests/unit/fake_cuda.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <regex>
#include <string>
#include <vector>

#include "runtime/device.h"
#include "runtime/ptx_emulator/emulator.h"
#include "runtime/tensor_map.h"

namespace {

std::mutex mutex;
std::string record;
void note(const std::string &line) {
  std::lock_guard lock(mutex);
  record += line + "\n";
}

int capability() {
  const char *own = std::getenv("WEFT_FAKE_CAPABILITY");
  return own ? std::atoi(own) : 90;
}

struct Module;
struct Function {
  Module *module;
  std::string entry;
  size_t parameterBytes = 0;
};
struct Module {
  std::unique_ptr<weft::ptx::Module> code;  ///< none: a cubin, whose launches are noted and not executed
  std::string text;
  std::vector<std::unique_ptr<Function>> functions;
};
/// Nobody unloads a module: they live as long as the driver.
std::vector<std::unique_ptr<Module>> modules;
std::mutex modulesMutex;

enum : int {
  success = 0,
  invalidValue = 1,
  invalidDevice = 101,
  noBinaryForGpu = 209,
  invalidPtx = 218,
  launchFailed = 719
};

struct Launched {
  const Function *function;
  weft::ptx::Launch launch;
};
std::vector<Launched> launched;

int run(const Launched &own) {
  try {
    own.function->module->code->run(own.function->entry, own.launch);
  } catch (const std::exception &error) {
    note(error.what());
    return launchFailed;
  }
  return success;
}

/// The architecture a cubin of CUDA 13 is for: bits 8 to 15 of the flags in its ELF header.
int cubinCapability(const unsigned char *image) { return image[0x31]; }

}  // namespace

extern "C" {

const char *weftFakeRecord() {
  static std::string copy;
  std::lock_guard lock(mutex);
  copy = record;
  return copy.c_str();
}
void weftFakeForget() {
  std::lock_guard lock(mutex);
  record.clear();
  launched.clear();
}
size_t weftFakeLaunches() {
  std::lock_guard lock(mutex);
  return launched.size();
}
void weftFakeReplay(size_t begin, size_t end) {
  std::vector<Launched> again;
  {
    std::lock_guard lock(mutex);
    end = std::min(end, launched.size());
    if (begin < end)
      again.assign(launched.begin() + static_cast<ptrdiff_t>(begin), launched.begin() + static_cast<ptrdiff_t>(end));
  }
  for (const Launched &own : again) run(own);
}

int cuGetErrorName(int code, const char **name) {
  *name = code == noBinaryForGpu ? "CUDA_ERROR_NO_BINARY_FOR_GPU"
          : code == invalidPtx   ? "CUDA_ERROR_INVALID_PTX"
                                 : "CUDA_ERROR_OF_THE_FAKE";
  return success;
}
int cuGetErrorString(int, const char **text) {
  *text = "the fake driver says so";
  return success;
}
int cuInit(unsigned) { return success; }
int cuDriverGetVersion(int *version) {
  *version = 13000;
  return success;
}
int cuDeviceGetCount(int *count) {
  *count = 1;
  return success;
}
int cuDeviceGet(int *handle, int index) {
  *handle = index;
  return index == 0 ? success : invalidDevice;
}
int cuDeviceGetName(char *name, int size, int) {
  std::strncpy(name, "Fake GPU", static_cast<size_t>(size));
  return success;
}
int cuDeviceGetAttribute(int *value, int attribute, int) {
  constexpr int units = 3;
  *value = attribute == 16 ? units : attribute == 75 ? capability() / 10 : attribute == 76 ? capability() % 10 : 0;
  return success;
}
int cuDevicePrimaryCtxRetain(void **context, int) {
  static int primary;
  *context = &primary;
  return success;
}
int cuCtxPushCurrent_v2(void *) { return success; }
int cuCtxPopCurrent_v2(void **previous) {
  *previous = nullptr;
  return success;
}

int cuModuleLoadDataEx(void **module, const void *image, unsigned, int *, void **values) {
  const auto *bytes = static_cast<const unsigned char *>(image);
  auto made = std::make_unique<Module>();
  if (std::memcmp(bytes,
                  "\x7f"
                  "ELF",
                  4) == 0) {
    const int own = cubinCapability(bytes);
    // Of the same major version, this one or an earlier minor one.
    const bool runs = own / 10 == capability() / 10 && own <= capability();
    note(std::string(runs ? "cubin" : "refused cubin") + " sm_" + std::to_string(own));
    if (!runs) return noBinaryForGpu;
  } else {
    made->text = static_cast<const char *>(image);
    note("ptx");
    try {
      made->code = std::make_unique<weft::ptx::Module>(made->text);
    } catch (const std::exception &error) {
      std::strncpy(static_cast<char *>(values[0]), error.what(), 1000);
      return invalidPtx;
    }
  }
  const std::lock_guard lock(modulesMutex);
  *module = modules.emplace_back(std::move(made)).get();
  return success;
}
int cuModuleGetFunction(void **function, void *module, const char *entry) {
  auto *own = static_cast<Module *>(module);
  auto made = std::make_unique<Function>(Function{own, entry});
  std::smatch match;
  if (std::regex_search(own->text, match, std::regex(std::string(entry) + R"(\([^)]*\.b8\s+\w+\[(\d+)\])")))
    made->parameterBytes = std::stoul(match[1]);
  const std::lock_guard lock(modulesMutex);
  *function = own->functions.emplace_back(std::move(made)).get();
  return success;
}
/// As the emulator reads it, which executes the kernels.
int cuTensorMapEncodeTiled(void *map, int type, uint32_t rank, void *address, const uint64_t *sizes,
                           const uint64_t *strides, const uint32_t *box, const uint32_t *elementStrides, int interleave,
                           int swizzle, int, int fill) {
  if (reinterpret_cast<uintptr_t>(map) % 64 || rank < 1 || rank > 5 || interleave || fill) return invalidValue;
  weft::TensorMap own;
  own.type = static_cast<weft::TensorMap::Type>(type);
  own.rank = static_cast<int>(rank);
  own.address = reinterpret_cast<uint64_t>(address);
  own.swizzle = static_cast<weft::Swizzle>(swizzle);
  for (uint32_t at = 0; at < rank; ++at) {
    own.sizes[at] = sizes[at];
    if (at) own.strides[at] = strides[at - 1];
    own.box[at] = box[at];
    own.elementStrides[at] = elementStrides[at];
  }
  if (!weft::problemOf(own).empty()) return invalidValue;
  const weft::EncodedTensorMap bytes = weft::encode(own, {weft::Device::Kind::PtxEmulator, 90});
  std::memcpy(map, bytes.bytes.data(), bytes.bytes.size());
  note("tensor map");
  return success;
}
int cuFuncSetAttribute(void *, int, int bytes) {
  return bytes <= weft::limitsOfArchitecture(capability() / 10, capability() % 10).sharedBytesPerBlock ? success
                                                                                                       : invalidValue;
}
int cuLaunchKernel(void *function, unsigned x, unsigned, unsigned, unsigned threads, unsigned, unsigned,
                   unsigned shared, void *stream, void **parameters, void **) {
  const auto &own = *static_cast<Function *>(function);
  note("launch " + own.entry + " " + std::to_string(x) +
       (stream ? " stream " + std::to_string(reinterpret_cast<uintptr_t>(stream)) : ""));
  if (!own.module->code) return success;
  weft::ptx::Launch launch;
  launch.blocks = x;
  launch.threads = static_cast<int>(threads);
  launch.sharedBytes = shared;
  launch.capability = capability();
  launch.parameters.resize(own.parameterBytes);
  std::memcpy(launch.parameters.data(), parameters[0], own.parameterBytes);
  launch.memory = {{1, INT64_MAX}};  // the host's: who calls has checked its own
  const Launched now{&own, launch};
  {
    std::lock_guard lock(mutex);
    launched.push_back(now);
  }
  return run(now);
}

}  // extern "C"
