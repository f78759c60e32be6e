#include "ops/passes.h"

namespace weft::ops {
namespace {

const at::Tensor &valueOf(const Binding &binding) {
  const auto &inputs = binding.set.variant->inputs();
  size_t at = 0;
  while (inputs[at].name != "v") ++at;  // the checker demands it
  return binding.prepared[at];
}

/// Partial sums [B, H, own dims] (or [B, H, T] of an input without own dims) to the shape of the input.
at::Tensor reducePartial(at::Tensor partial, const InputInfo &input, const Binding &call) {
  if (!input.perEntry && std::find(input.dims.begin(), input.dims.end(), "T") == input.dims.end())
    partial = partial.sum(2);
  bool hasBatch = false, hasHead = false, hasGroup = false;
  for (const std::string &dim : input.dims) {
    hasBatch |= dim == "B";
    hasHead |= dim == "H";
    hasGroup |= dim == "G";
  }
  if (hasGroup && call.G != call.H) {
    std::vector<int64_t> shape{call.B, call.G, call.H / call.G};
    shape.insert(shape.end(), partial.sizes().begin() + 2, partial.sizes().end());
    partial = partial.reshape(shape).sum(2);
  } else if (!hasHead && !hasGroup) {
    partial = partial.sum(1, true);
  }
  if (!hasBatch) partial = partial.sum(0, true);
  std::vector<int64_t> shape;
  for (const std::string &dim : input.dims) shape.push_back(call.dim(dim));
  return partial.reshape(shape);
}

/// Torch's deterministic mode refuses, or warns of, what a GPU adds up in no fixed order.
void alertOfAtomicSums(Binding &call, const std::vector<std::string> &kernels) {
  if (call.set.device.kind == Device::Kind::Cpu || !at::globalContext().deterministicAlgorithms()) return;
  const Variant &variant = *call.set.variant;
  for (const InputInfo &input : variant.inputs()) {
    // Several warps meet at a key's sum, any programs at an entry of a table, and a list may name a key twice.
    const bool listed = variant.keyList().input >= 0 || variant.selectsKeys();
    const bool atomic = input.isRow ? listed && !input.querySide : input.perEntry;
    if (!input.isFloat || !atomic) continue;
    for (const std::string &kernel : kernels)
      if (call.names(kernel.c_str(), "d" + input.name)) {
        at::Context::alertNotDeterministic("the gradient of '" + input.name + "' of weft variant '" + variant.name() +
                                           "' on a GPU");
        break;
      }
  }
}

}  // namespace

void bindKept(Binding &call, const at::Tensor &rows) {
  int64_t at = 0;
  for (const std::string &name : call.set.variant->keptRows()) call.bind(name, rows.select(0, at++));
}

bool isFused(const Binding &call) {
  if (!call.set.variant->hasTwoPassBackward(call.G != call.H)) return true;
  const BackwardForm form = call.set.schedule.form;
  if (form != BackwardForm::Automatic) return form == BackwardForm::Fused;
  // A CPU with a program for each core is best with one pass; a GPU needs many programs.
  return call.set.device.kind == Device::Kind::Cpu && call.B * call.G >= at::get_num_threads();
}

std::tuple<at::Tensor, at::Tensor> runForward(Binding &call) {
  at::Tensor o = at::empty({call.B, call.H, call.T, valueOf(call).size(3)}, valueOf(call).options());
  at::Tensor rows = at::empty({rowsKept(*call.set.variant), call.B, call.H, call.T}, o.options().dtype(at::kFloat));
  if (o.numel() == 0 && rows.numel() == 0) return {o, rows};
  call.bind("o", o);
  bindKept(call, rows);
  call.plan();
  call.run("forward");
  call.checkStatus();
  return {o, rows};
}

std::vector<at::Tensor> runBackward(Binding &call, const at::Tensor &o, const at::Tensor &rows, const at::Tensor &dO,
                                    const std::optional<at::Tensor> &dLse) {
  const auto &inputs = call.set.variant->inputs();
  const bool fused = isFused(call);
  const at::TensorOptions floats = o.options().dtype(at::kFloat);
  const at::Tensor gradient = readable(dO.to(o.scalar_type()), call.set.device), output = readable(o, call.set.device);
  call.bind("o", output);
  call.bind("do", gradient);
  bindKept(call, rows.contiguous());
  std::vector<at::Tensor> buffers(inputs.size());
  for (size_t at = 0; at < inputs.size(); ++at) {
    const InputInfo &input = inputs[at];
    if (!input.isFloat) continue;
    const at::Tensor &tensor = call.prepared[at];
    if (input.isRow) {
      buffers[at] = input.querySide ? at::zeros(tensor.sizes(), tensor.options()) : at::zeros(tensor.sizes(), floats);
    } else {
      std::vector<int64_t> shape{call.B, call.H};
      for (const std::string &dim : input.gradientDims) shape.push_back(call.dim(dim));
      buffers[at] = at::zeros(shape, floats);
    }
    call.bind("d" + input.name, buffers[at]);
  }
  int64_t keys = 0;
  for (const KeySetInfo &set : call.set.variant->keySets()) keys += call.dim(set.dim);
  if (o.numel() > 0 && keys > 0) {
    call.plan();
    if (call.set.variant->hasDelta()) {
      call.bind("dlse", dLse && dLse->defined() ? dLse->to(at::kFloat).contiguous()
                                                : at::zeros({call.B, call.H, call.T}, floats));
      call.bind("delta", at::empty({call.B, call.H, call.T}, floats));
      call.run("backward_delta");
    }
    std::vector<std::string> kernels{fused ? "backward" : "backward_dq"};
    if (!fused)
      for (const KeySetInfo &set : call.set.variant->keySets()) kernels.push_back(ofKeys("backward_dkdv", set.dim));
    alertOfAtomicSums(call, kernels);
    if (fused) {
      call.run("backward");
    } else {
      call.run("backward_dq");
      call.plan(true);
      for (const KeySetInfo &set : call.set.variant->keySets())
        if (call.dim(set.dim) > 0) call.run(ofKeys("backward_dkdv", set.dim).c_str());
    }
    call.checkStatus();
  }
  std::vector<at::Tensor> gradients(inputs.size());
  for (size_t at = 0; at < inputs.size(); ++at)
    if (inputs[at].isFloat)
      gradients[at] = inputs[at].isRow ? buffers[at] : reducePartial(buffers[at], inputs[at], call);
  return gradients;
}

}  // namespace weft::ops
