#include "runtime/cuda/driver.h"

#include <dlfcn.h>

#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <type_traits>

#include "runtime/log.h"

namespace weft::cuda {
namespace {

// The part of the driver's interface that is used (cuda.h, CUDA Driver API); its ABI is fixed by the _v2 names.
using Result = int;
using DeviceHandle = int;
using Context = void *;
using Module = void *;
using FunctionHandle = void *;

enum : int {
  attributeUnits = 16,  // CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
  attributeMajor = 75,
  attributeMinor = 76,           // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
  functionMaxDynamicShared = 8,  // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
  jitErrorLog = 5,
  jitErrorLogSize = 6,  // CU_JIT_ERROR_LOG_BUFFER, _SIZE_BYTES
};

// Every driver function, once: name of the member, symbol, signature.
#define WEFT_CUDA_FUNCTIONS(X)                                                                                    \
  X(getErrorName, "cuGetErrorName", Result(Result, const char **))                                                \
  X(getErrorString, "cuGetErrorString", Result(Result, const char **))                                            \
  X(init, "cuInit", Result(unsigned))                                                                             \
  X(driverGetVersion, "cuDriverGetVersion", Result(int *))                                                        \
  X(deviceGetCount, "cuDeviceGetCount", Result(int *))                                                            \
  X(deviceGet, "cuDeviceGet", Result(DeviceHandle *, int))                                                        \
  X(deviceGetName, "cuDeviceGetName", Result(char *, int, DeviceHandle))                                          \
  X(deviceGetAttribute, "cuDeviceGetAttribute", Result(int *, int, DeviceHandle))                                 \
  X(primaryRetain, "cuDevicePrimaryCtxRetain", Result(Context *, DeviceHandle))                                   \
  X(pushCurrent, "cuCtxPushCurrent_v2", Result(Context))                                                          \
  X(popCurrent, "cuCtxPopCurrent_v2", Result(Context *))                                                          \
  X(moduleLoad, "cuModuleLoadDataEx", Result(Module *, const void *, unsigned, int *, void **))                   \
  X(moduleGetFunction, "cuModuleGetFunction", Result(FunctionHandle *, Module, const char *))                     \
  X(functionSetAttribute, "cuFuncSetAttribute", Result(FunctionHandle, int, int))                                 \
  X(launchKernel, "cuLaunchKernel",                                                                               \
    Result(FunctionHandle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, \
           void **))

/// CUtensorMap: type, rank, address, sizes, strides from dimension 1 on, box, element strides, interleave, swizzle,
/// promotion, fill. Drivers before CUDA 12 lack it, and the GPUs they know do too.
using EncodeTiled = Result(void *, int, uint32_t, void *, const uint64_t *, const uint64_t *, const uint32_t *,
                           const uint32_t *, int, int, int, int);

struct Driver {
  EncodeTiled *encodeTiled = nullptr;
#define WEFT_MEMBER(member, symbol, ...) std::add_pointer_t<__VA_ARGS__> member = nullptr;
  WEFT_CUDA_FUNCTIONS(WEFT_MEMBER)
#undef WEFT_MEMBER
  std::string error;  ///< why there is no driver; empty where there is one

  Driver() {
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    if (!library) {
      error = "no NVIDIA driver on this machine (libcuda.so.1 not found); use device cpu";
      return;
    }
#define WEFT_LOAD(member, symbol, ...)                                 \
  member = reinterpret_cast<decltype(member)>(dlsym(library, symbol)); \
  if (!member && error.empty()) error = "the NVIDIA driver is too old: it lacks " symbol;
    WEFT_CUDA_FUNCTIONS(WEFT_LOAD)
#undef WEFT_LOAD
    encodeTiled = reinterpret_cast<EncodeTiled *>(dlsym(library, "cuTensorMapEncodeTiled"));
    if (!error.empty()) return;
    if (const Result code = init(0)) error = "cuInit: " + describe(code);
  }

  std::string describe(Result code) const {
    const char *name = nullptr, *text = nullptr;
    getErrorName(code, &name);
    getErrorString(code, &text);
    return std::string(name ? name : "unknown error") + " (" + std::to_string(code) + "): " + (text ? text : "");
  }
  void check(Result code, const char *what) const {
    if (code) throw std::runtime_error(std::string(what) + ": " + describe(code));
  }
};

const Driver &driver() {
  static const Driver instance;
  if (!instance.error.empty()) throw std::runtime_error(instance.error);
  return instance;
}

DeviceHandle handleOf(int device) {
  int count = 0;
  driver().check(driver().deviceGetCount(&count), "cuDeviceGetCount");
  if (device < 0 || device >= count)
    throw std::runtime_error("expected a GPU from 0 to " + std::to_string(count - 1) + ", got " +
                             std::to_string(device));
  DeviceHandle handle = 0;
  driver().check(driver().deviceGet(&handle, device), "cuDeviceGet");
  return handle;
}

/// The primary context, current while this lives. Retained once a process.
class Current {
 public:
  explicit Current(int device) {
    static std::mutex mutex;
    static std::map<int, Context> contexts;
    Context context = nullptr;
    {
      std::lock_guard lock(mutex);
      Context &slot = contexts[device];
      if (!slot) driver().check(driver().primaryRetain(&slot, handleOf(device)), "cuDevicePrimaryCtxRetain");
      context = slot;
    }
    driver().check(driver().pushCurrent(context), "cuCtxPushCurrent");
  }
  ~Current() {
    Context previous = nullptr;
    driver().popCurrent(&previous);
  }
};

}  // namespace

int capability(int device) {
  const DeviceHandle handle = handleOf(device);
  int major = 0, minor = 0;
  driver().check(driver().deviceGetAttribute(&major, attributeMajor, handle), "cuDeviceGetAttribute");
  driver().check(driver().deviceGetAttribute(&minor, attributeMinor, handle), "cuDeviceGetAttribute");
  return 10 * major + minor;
}

int units(int device) {
  int count = 0;
  driver().check(driver().deviceGetAttribute(&count, attributeUnits, handleOf(device)), "cuDeviceGetAttribute");
  if (count < 1) throw std::runtime_error("cuda: a device of " + std::to_string(count) + " multiprocessors");
  return count;
}

std::string identity(int device) {
  char name[256] = {};
  int version = 0;
  driver().check(driver().deviceGetName(name, sizeof name, handleOf(device)), "cuDeviceGetName");
  driver().check(driver().driverGetVersion(&version), "cuDriverGetVersion");
  return std::string(name) + ", driver " + std::to_string(version);
}

void encodeTensorMap(const TensorMap &map, void *bytes) {
  constexpr int noInterleave = 0, promotionTo256Bytes = 3, fillWithZeros = 0;
  if (!driver().encodeTiled) throw std::runtime_error("the NVIDIA driver is too old: it lacks cuTensorMapEncodeTiled");
  driver().check(driver().encodeTiled(bytes, static_cast<int>(map.type), static_cast<uint32_t>(map.rank),
                                      reinterpret_cast<void *>(map.address), map.sizes.data(), map.strides.data() + 1,
                                      map.box.data(), map.elementStrides.data(), noInterleave,
                                      static_cast<int>(map.swizzle), promotionTo256Bytes, fillWithZeros),
                 "cuTensorMapEncodeTiled");
}

/// The empty string, or why the driver refused the code.
static std::string loadModule(Module &module, const std::string &code) {
  std::string words(16384, '\0');
  int options[] = {jitErrorLog, jitErrorLogSize};
  void *values[] = {words.data(), reinterpret_cast<void *>(words.size())};
  const Result result = driver().moduleLoad(&module, code.c_str(), 2, options, values);
  if (!result) return {};
  return "cuModuleLoadDataEx: " + driver().describe(result) +
         (words[0] ? "\n" + words.substr(0, words.find('\0')) : "");
}

Function::Function(int device, const std::string &code, const std::string &ptx, const std::string &entry,
                   int64_t sharedBytes)
    : device(device), sharedBytes(sharedBytes) {
  const Current context(device);
  Module module = nullptr;
  bool cubin = code != ptx;
  std::string refused = loadModule(module, code);
  if (cubin && !refused.empty()) {
    log().warn("{}: its cubin: {}; the driver compiles the PTX instead", entry, refused);
    cubin = false;
    refused = loadModule(module, ptx);
  }
  if (!refused.empty()) throw std::runtime_error(entry + ": " + refused);
  log().debug("{}: loaded as {} on cuda:{}", entry, cubin ? "a cubin" : "PTX", device);
  driver().check(driver().moduleGetFunction(&function, module, entry.c_str()), "cuModuleGetFunction");
  if (sharedBytes > 48 * 1024)
    driver().check(driver().functionSetAttribute(function, functionMaxDynamicShared, static_cast<int>(sharedBytes)),
                   "cuFuncSetAttribute (shared memory)");
}

void Function::launch(int64_t blocks, int threads, void *stream, const void *parameters) const {
  if (blocks == 0) return;
  const Current context(device);
  void *arguments[] = {const_cast<void *>(parameters)};
  driver().check(driver().launchKernel(function, static_cast<unsigned>(blocks), 1, 1, static_cast<unsigned>(threads), 1,
                                       1, static_cast<unsigned>(sharedBytes), stream, arguments, nullptr),
                 "cuLaunchKernel");
}

}  // namespace weft::cuda
