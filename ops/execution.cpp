#include "ops/execution.h"

#include "ops/arguments.h"
#include "ops/devices.h"
#include "ops/layout.h"
#include "runtime/environment.h"

namespace weft::ops {
namespace {

std::vector<int64_t> joined(std::vector<int64_t> dims, const std::vector<int64_t> &more) {
  dims.insert(dims.end(), more.begin(), more.end());
  return dims;
}

}  // namespace

Execution::Execution(const Binding &binding, const CallForm &form, const std::vector<int64_t> &more)
    : call(binding.set.call(form)),
      plan(call.plan),
      binding(binding),
      dims(dimsOf(plan, joined(binding.dims, more))),
      tensors(plan.buffers.size()),
      memory(plan.buffers.size()) {
  for (size_t at = 0; at < binding.prepared.size(); ++at) bind(static_cast<int>(at), binding.prepared[at]);
  if (form.seedGiven && plan.seed >= 0) bind(plan.seed, binding.seed);
  if (form.selectionGiven && plan.selection >= 0) bind(plan.selection, binding.selection);
}

void Execution::bind(int buffer, const at::Tensor &tensor) {
  const at::Tensor &own = tensors[buffer] = tensor;
  if (own.numel() > 0) {
    memory[buffer] = {own.data_ptr(), own.strides().data()};
    return;
  }
  // An index that left its dim reads the nearest element: where there is none, a zero.
  std::vector<int64_t> sizes = own.sizes().vec();
  for (int64_t &size : sizes) size = std::max<int64_t>(size, 1);
  const at::Tensor &zeros = standIns.emplace_back(at::zeros(sizes, own.options().requires_grad(false)));
  memory[buffer] = {zeros.data_ptr(), zeros.strides().data()};
}

void Execution::allocate(int buffer) {
  const CallPlan::Buffer &own = plan.buffers[buffer];
  const at::TensorOptions options = binding.options(torchType(own.type));
  if (own.zeroed) bind(buffer, at::zeros(shape(buffer), options));
  else bind(buffer, own.filled ? emptyLarge(shape(buffer), options) : at::empty(shape(buffer), options));
}

void Execution::layGradients() {
  for (const CallPlan::Gradient &gradient : plan.gradients) {
    if (!binding.tokensFirst[gradient.input]) continue;
    const CallPlan::Buffer &own = plan.buffers[gradient.buffer];
    const std::vector<int64_t> sizes = shape(gradient.buffer);
    at::Tensor rows = emptyRows(c10::fromIntArrayRefSlow(sizes), true, binding.options(torchType(own.type)));
    if (own.zeroed) rows.zero_();
    bind(gradient.buffer, rows);
  }
}

void Execution::run() {
  using Owner = CallPlan::Owner;
  if (onHost()) bind(plan.status, &status);
  for (size_t at = 0; at < memory.size(); ++at) {
    const Owner owner = plan.buffers[at].owner;
    if (!memory[at].data && (call.uses(static_cast<int>(at)) || owner == Owner::Output || owner == Owner::Kept))
      allocate(static_cast<int>(at));
  }
  EmulatorReport report;
  call.run(dims.data(), memory.data(), launchContext(binding.set.device, report));
  if (binding.set.device.kind == Device::Kind::PtxEmulator) addReport(report);
  checkStatus();
}

void Execution::checkStatus() const {
  if (!call.uses(plan.status)) return;
  // On a GPU the answer would have to be waited for; debug builds of a model can ask for it.
  if (!onHost() && !environment::synchronous()) return;
  TORCH_CHECK((onHost() ? status : tensors[plan.status].item<int>()) == 0, "weft: variant '",
              binding.set.variant->name(),
              "': an index of a kept pair left its dim; make the dim large enough, or keep such pairs out with "
              "'where'");
}

}  // namespace weft::ops
