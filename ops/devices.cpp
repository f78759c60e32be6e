#include "ops/devices.h"

#include <sys/mman.h>

#include <atomic>
#include <mutex>

#include <ATen/Parallel.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/cuda.h>

#include "ops/attention.h"
#include "runtime/environment.h"
#include "runtime/kernel_cache.h"

namespace weft::ops {
namespace {

/// Kernels share torch's threads.
const bool onTorchThreads = [] {
  setExecutor([](int threads, const std::function<void(int)> &work) {
    at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t worker = begin; worker < end; ++worker) work(static_cast<int>(worker));
    });
  });
  return true;
}();

/// torch's current stream, asked of the guard that CUDA builds of torch register: no CUDA header is needed.
void *currentStream(int index) {
  const c10::impl::VirtualGuardImpl guard(c10::DeviceType::CUDA);
  const c10::Stream stream = guard.getStream(c10::Device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index)));
  return stream.native_handle();
}

}  // namespace

int threadCount() {
  static const int own = environment::threads();
  return own > 0 ? std::min(own, at::get_num_threads()) : at::get_num_threads();
}

Device deviceOf(at::TensorList tensors) {
  // Some may be there for the host: a seed, an origin.
  for (const at::Tensor &tensor : tensors)
    if (tensor.device().is_cuda()) return {Device::Kind::Cuda, tensor.device().index()};
  return hostDevice();
}

static Device hostOf(const Device &device) { return device.kind == Device::Kind::PtxEmulator ? device : Device{}; }
static std::atomic<Device> &ownHost() {
  static std::atomic<Device> host = [] {
    try {
      return hostOf(parseDevice(environment::device()));
    } catch (const std::exception &error) {
      TORCH_CHECK(false, "weft: WEFT_DEVICE: ", error.what());
    }
  }();
  return host;
}
Device hostDevice() { return ownHost(); }
torch::Device useDevice(const std::string &name) {
  const Device device = parseDevice(name);
  ownHost() = hostOf(device);
  if (device.kind != Device::Kind::Cuda) return at::kCPU;
  targetOf(device);  // says what is missing
  if (!torch::cuda::is_available())
    throw std::runtime_error("this torch was built without CUDA; install one with it, or use device cpu");
  return torch::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device.index));
}

static std::mutex reportMutex;
static EmulatorReport reportTotal;
EmulatorReport emulatorReport() {
  std::lock_guard lock(reportMutex);
  return reportTotal;
}

at::Tensor readable(const at::Tensor &tensor, const Device &device) {
  bool fits = tensor.size(3) <= 1 || tensor.stride(3) == 1;
  // A GPU copies rows in pieces of up to 16 bytes; each must lie at a multiple of its size.
  if (device.kind != Device::Kind::Cpu) {
    const int64_t item = tensor.element_size(), row = tensor.size(3) * item;
    const int64_t piece = row % 16 == 0 ? 16 : row % 8 == 0 ? 8 : row % 4 == 0 ? 4 : item;
    fits &= reinterpret_cast<uintptr_t>(tensor.data_ptr()) % piece == 0;
    for (int dim = 0; dim < 3; ++dim) fits &= tensor.stride(dim) * item % piece == 0;
  }
  return fits ? tensor : tensor.clone(at::MemoryFormat::Contiguous);
}

LaunchContext launchContext(const Device &device, EmulatorReport &report) {
  LaunchContext context;
  context.threads = threadCount();
  context.report = &report;
  if (device.kind == Device::Kind::Cuda) context.stream = currentStream(device.index);
  return context;
}

void addReport(const EmulatorReport &report) {
  std::lock_guard lock(reportMutex);
  reportTotal += report;
}

at::Tensor emptyLarge(at::IntArrayRef sizes, const at::TensorOptions &options) {
  at::Tensor tensor = at::empty(sizes, options);
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t page = uintptr_t{2} << 20;
  const auto begin = reinterpret_cast<uintptr_t>(tensor.data_ptr()), first = (begin + page - 1) / page * page;
  const uintptr_t end = (begin + tensor.nbytes()) / page * page;
  if (tensor.is_cpu() && end > first)
    madvise(reinterpret_cast<void *>(first), end - first, MADV_HUGEPAGE);  // advice: may fail
#endif
  return tensor;
}

}  // namespace weft::ops
