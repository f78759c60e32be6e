#include "ops/binding.h"

#include "ops/devices.h"
#include "ops/layout.h"

namespace weft::ops {
namespace {

/// An input as the kernels read it.
at::Tensor prepare(const at::Tensor &tensor, const InputInfo &input, const KernelSet &set) {
  if (input.isRow) {
    TORCH_CHECK(elementType(tensor.scalar_type()) == set.type, "weft: variant '", set.variant->name(),
                "': expected input '", input.name, "' of type ", name(set.type), ", got ", tensor.scalar_type());
    return readable(tensor, set.device);
  }
  if (input.isFloat) return tensor.to(torchType(floatsBeside(set.type))).contiguous();
  if (!input.isInt) return tensor.contiguous();
  return as32Bits(tensor, [&] { return "weft: variant '" + set.variant->name() + "': input '" + input.name + "'"; });
}

}  // namespace

Binding::Binding(KernelSet &set, const std::vector<std::string> &names, at::TensorList list) : set(set) {
  const Signature signature(set.variant, names, list.size());
  take(checkArguments(signature, list), list);
}
Binding::Binding(KernelSet &set, const Arguments &arguments, at::TensorList list) : set(set) { take(arguments, list); }

void Binding::take(const Arguments &arguments, at::TensorList list) {
  const Signature &signature = *arguments.signature;
  dims.reserve(arguments.sizes.size());
  for (const c10::SymInt &size : arguments.sizes) dims.push_back(size.guard_int(__FILE__, __LINE__));
  const auto &inputs = set.variant->inputs();
  prepared.reserve(inputs.size());
  for (size_t at = 0; at < inputs.size(); ++at) {
    const at::Tensor &tensor = list[signature.places[at]];
    prepared.push_back(prepare(tensor, inputs[at], set));
    tokensFirst.push_back(inputs[at].isRow && ops::tokensFirst(tensor));
  }
  outputTokensFirst = outputHasTokensFirst(signature, list);
  B = dims[0];
  H = dims[1];
  G = dims[2];
  T = dims[3];
  S = dims[4];
  if (signature.seed >= 0) seed = list[signature.seed].to(prepared[0].device()).contiguous();
  if (signature.selection >= 0) selection = list[signature.selection].contiguous();
}

CallForm Binding::form(Purpose purpose) const {
  CallForm form;
  form.purpose = purpose;
  if (purpose == Purpose::Backward) form.backward = backwardForm(*this, set.schedule.form);
  form.selectionGiven = selection.defined();
  form.seedGiven = seed.defined();
  form.wideSums = purpose == Purpose::Backward && set.device.kind == Device::Kind::Cpu;
  return form;
}

at::TensorOptions Binding::options(at::ScalarType type) const {
  return prepared[0].options().dtype(type).requires_grad(false);
}

BackwardForm backwardForm(const Binding &call, BackwardForm asked) {
  const bool cpu = call.set.device.kind == Device::Kind::Cpu;
  // What is added atomically differs in its last bits from run to run.
  const bool atomic = !cpu && !at::globalContext().deterministicAlgorithms();
  if (!call.set.variant->hasTwoPassBackward(call.G != call.H))
    return atomic ? BackwardForm::FusedQueries : BackwardForm::Fused;
  const bool adds = asked == BackwardForm::FusedQueries || asked == BackwardForm::FusedKeys;
  if (asked != BackwardForm::Automatic) return adds && !atomic ? BackwardForm::TwoPass : asked;
  // A CPU with a program for each core is best with one pass; a GPU needs many programs.
  return cpu && call.B * call.G >= at::get_num_threads() ? BackwardForm::Fused : BackwardForm::TwoPass;
}

}  // namespace weft::ops
