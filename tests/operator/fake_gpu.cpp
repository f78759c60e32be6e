// CUDA tensors for a torch without CUDA: their memory is the host's, their operations are those of the CPU. With a fake
// driver (tests/unit/fake_cuda.cpp) the operator's way for CUDA tensors runs as on a GPU: dispatch, allocation,
// streams, launches.
//
//   torch.ops.fake_gpu.on(tensor)   a copy as a CUDA tensor;   torch.ops.fake_gpu.off(tensor)   a copy of it as a CPU
//   tensor torch.ops.fake_gpu.record()     what the driver was asked for since the last call
//   torch.ops.fake_gpu.stream(n)    makes the stream of handle n the current one
//   torch.ops.fake_gpu.capture()    begins a graph: from here on what a capture forbids is an error;   end() ends it
//   torch.ops.fake_gpu.replay()     runs the graph: operations and launches in their order, on the memory they had
#include <dlfcn.h>

#include <limits>

#include <ATen/ATen.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

namespace {

const c10::Device gpu(c10::kCUDA, 0);
int64_t current = 0;  ///< stream

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return c10::kCUDA; }
  c10::Device exchangeDevice(c10::Device) const override { return gpu; }
  c10::Device getDevice() const override { return gpu; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return c10::Stream(c10::Stream::UNSAFE, gpu, current); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void *getStreamNativeHandle(const c10::Stream stream) const override { return reinterpret_cast<void *>(stream.id()); }
};
C10_REGISTER_GUARD_IMPL(CUDA, Guard)

/// The same memory as a tensor of another device.
at::Tensor aliased(const at::Tensor &tensor, c10::Device device) {
  if (!tensor.defined() || tensor.device() == device) return tensor;
  const int64_t bytes = tensor.storage().nbytes() - tensor.storage_offset() * tensor.element_size();
  at::DataPtr memory(
      tensor.data_ptr(), new at::Tensor(tensor), [](void *own) { delete static_cast<at::Tensor *>(own); }, device);
  c10::Storage storage(c10::Storage::use_byte_size_t(), static_cast<size_t>(std::max<int64_t>(bytes, 0)),
                       std::move(memory), nullptr, false);
  const c10::DispatchKey key = device.is_cuda() ? c10::DispatchKey::CUDA : c10::DispatchKey::CPU;
  at::Tensor result =
      at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(key), tensor.dtype());
  result.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides());
  return result;
}

c10::IValue moved(const c10::IValue &value, c10::Device from, c10::Device to) {
  if (value.isTensor())
    return value.toTensor().defined() && value.toTensor().device() == from ? aliased(value.toTensor(), to)
                                                                           : value.toTensor();
  if (value.isDevice()) return value.toDevice().type() == from.type() ? c10::IValue(to) : value;
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor &tensor : value.toTensorVector())
      list.push_back(tensor.device() == from ? aliased(tensor, to) : tensor);
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> list;
    for (const std::optional<at::Tensor> &tensor : value.toOptionalTensorVector())
      list.push_back(tensor && tensor->device() == from ? std::optional(aliased(*tensor, to)) : tensor);
    return list;
  }
  return value;
}

template <class Function>
Function ofDriver(const char *name) {
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
  auto found = library ? reinterpret_cast<Function>(dlsym(library, name)) : nullptr;
  TORCH_CHECK(found, "the fake driver is not on LD_LIBRARY_PATH");
  return found;
}

/// An operation of a graph, over the host's memory, and the results that it fills. They stay allocated as in a graph's
/// own pool.
struct Captured {
  c10::OperatorHandle op;
  torch::jit::Stack arguments, results;
  size_t launches;  ///< how many came before it
};
bool capturing = false;
std::vector<Captured> graph;
size_t launches() { return ofDriver<size_t (*)()>("weftFakeLaunches")(); }

/// A look at values from the host, or a copy to or from pageable memory, waits for the stream: no graph can hold it.
void refuseInCapture(const c10::OperatorHandle &op, const torch::jit::Stack &given) {
  const std::string &name = op.schema().name();
  bool mixed = false;
  for (const c10::IValue &value : given)
    mixed |= value.isTensor() && value.toTensor().defined() && !value.toTensor().is_cuda();
  TORCH_CHECK(name != "aten::_local_scalar_dense" && name != "aten::equal" && name != "aten::nonzero" &&
                  !(name == "aten::copy_" && mixed),
              "operation not permitted when stream is capturing: ", name);
}

void addToGraph(const c10::OperatorHandle &op, torch::jit::Stack arguments, const torch::jit::Stack &stack,
                size_t begin) {
  Captured own{op, std::move(arguments), {stack.begin() + static_cast<int64_t>(begin), stack.end()}, launches()};
  graph.push_back(std::move(own));
}

void capture() {
  graph.clear();
  ofDriver<void (*)()>("weftFakeForget")();
  capturing = true;
}
void end() { capturing = false; }

void replay() {
  const auto launched = ofDriver<void (*)(size_t, size_t)>("weftFakeReplay");
  size_t done = 0;
  for (const Captured &own : graph) {
    launched(done, own.launches);
    done = own.launches;
    if (own.op.schema().name().rfind("aten::empty", 0) == 0) continue;
    torch::jit::Stack stack = own.arguments;
    own.op.callBoxed(stack);
    for (size_t at = 0; at < own.results.size(); ++at)
      if (!own.op.schema().returns()[at].alias_info() && own.results[at].isTensor())
        own.results[at].toTensor().copy_(stack[at].toTensor());
  }
  launched(done, std::numeric_limits<size_t>::max());
}

/// Every operation without a way of its own: on the CPU, over the same memory.
void onHost(const c10::OperatorHandle &op, torch::jit::Stack *stack) {
  const auto &schema = op.schema();
  const size_t count = schema.arguments().size(), begin = stack->size() - count;
  const std::vector<c10::IValue> given(stack->begin() + static_cast<int64_t>(begin), stack->end());
  if (capturing) refuseInCapture(op, given);
  for (size_t at = begin; at < stack->size(); ++at) (*stack)[at] = moved((*stack)[at], gpu, c10::kCPU);
  torch::jit::Stack arguments;
  if (capturing) arguments.assign(stack->begin() + static_cast<int64_t>(begin), stack->end());
  op.callBoxed(stack);
  if (capturing) addToGraph(op, std::move(arguments), *stack, begin);
  for (size_t at = 0; at < schema.returns().size(); ++at) {
    c10::IValue &result = (*stack)[begin + at];
    const auto *alias = schema.returns()[at].alias_info();
    bool own = false;
    if (alias && alias->isWrite())
      for (size_t argument = 0; argument < count && !own; ++argument)
        if (const auto *other = schema.arguments()[argument].alias_info(); other && *other == *alias) {
          result = given[argument];
          own = true;
        }
    if (!own) result = moved(result, c10::kCPU, gpu);
  }
}

at::Tensor on(const at::Tensor &tensor) { return aliased(tensor.detach().clone(), gpu); }
at::Tensor off(const at::Tensor &tensor) { return aliased(tensor.detach(), c10::kCPU).clone(); }

std::string record() {
  const std::string text = ofDriver<const char *(*)()>("weftFakeRecord")();
  ofDriver<void (*)()>("weftFakeForget")();
  return text;
}

TORCH_LIBRARY(fake_gpu, library) {
  library.def("on(Tensor tensor) -> Tensor", on);
  library.def("off(Tensor tensor) -> Tensor", off);
  library.def("record() -> str", record);
  library.def("stream(int handle) -> ()", [](int64_t handle) { current = handle; });
  library.def("capture() -> ()", capture);
  library.def("end() -> ()", end);
  library.def("replay() -> ()", replay);
}
TORCH_LIBRARY_IMPL(_, CUDA, library) { library.fallback(torch::CppFunction::makeFromBoxedFunction<&onHost>()); }
// Of these torch has ways for all devices, which ask a device's own parts.
TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  for (const char *name : {"copy_", "empty.memory_format", "empty_strided"})
    library.impl(name, torch::CppFunction::makeFromBoxedFunction<&onHost>());
}

}  // namespace
