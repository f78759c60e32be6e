#include "ops/passes.h"

#include "ops/arguments.h"
#include "ops/devices.h"
#include "ops/layout.h"

namespace weft::ops {
namespace {

const at::Tensor &valueOf(const Binding &call) { return call.prepared[call.set.variant->keySets()[0].values]; }

/// Partial sums to the shape of their input, the last axis first.
at::Tensor summed(at::Tensor partial, const CallPlan::Gradient &gradient, const Binding &call) {
  using Axis = CallPlan::Gradient::Axis;
  const at::Tensor &input = call.prepared[gradient.input];
  for (int64_t axis = static_cast<int64_t>(gradient.axes.size()) - 1; axis >= 0; --axis) {
    if (gradient.axes[axis] == Axis::Summed) partial = partial.sum(axis, true);
    if (gradient.axes[axis] != Axis::Grouped) continue;
    const int64_t groups = input.size(call.set.variant->inputs()[gradient.input].groupAxis());
    if (groups != call.H) partial = partial.unflatten(axis, at::IntArrayRef{groups, call.H / groups}).sum(axis + 1);
  }
  return partial.reshape(input.sizes());
}

/// Torch's deterministic mode refuses, or warns of, what a GPU adds up in no fixed order.
void alertOfAtomicSums(const Execution &pass, const Binding &call) {
  if (call.set.device.kind == Device::Kind::Cpu || !at::globalContext().deterministicAlgorithms()) return;
  for (const CallPlan::Gradient &gradient : pass.plan.gradients)
    if (gradient.meeting && pass.call.uses(gradient.buffer))
      at::Context::alertNotDeterministic("the gradient of '" + call.set.variant->inputs()[gradient.input].name +
                                         "' of weft variant '" + call.set.variant->name() + "' on a GPU");
}

}  // namespace

void bindRows(Execution &pass, const at::Tensor &rows) {
  const size_t bytes = rows.nbytes() / pass.plan.rows.size();
  for (size_t at = 0; at < pass.plan.rows.size(); ++at)
    pass.bind(pass.plan.rows[at], static_cast<char *>(rows.data_ptr()) + at * bytes);
}

std::tuple<at::Tensor, at::Tensor> runForward(const Binding &call) {
  const at::Tensor &value = valueOf(call);
  at::Tensor o = emptyRows({call.B, call.H, call.T, value.size(3)}, call.outputTokensFirst, value.options());
  at::Tensor rows =
      at::empty({rowsKept(*call.set.variant), call.B, call.H, call.T}, call.options(floatsBeside(value.scalar_type())));
  if (rows.numel() == 0) return {o, rows};
  Execution pass(call, call.form(Purpose::Forward));
  pass.bind(pass.plan.o, o);
  bindRows(pass, rows);
  pass.run();
  return {o, rows};
}

std::vector<at::Tensor> runBackward(const Binding &call, const at::Tensor &o, const at::Tensor &rows,
                                    const at::Tensor &dO, const std::optional<at::Tensor> &dLse) {
  CallForm form = call.form(Purpose::Backward);
  form.dLseGiven = dLse && dLse->defined();
  Execution pass(call, form);
  const at::Tensor kept = rows.contiguous(),
                   dRows = form.dLseGiven ? dLse->to(rows.scalar_type()).contiguous() : at::Tensor();
  pass.bind(pass.plan.o, readable(o, call.set.device));
  pass.bind(pass.plan.dO, readable(dO.to(o.scalar_type()), call.set.device));
  bindRows(pass, kept);
  if (form.dLseGiven && pass.plan.dLse >= 0) pass.bind(pass.plan.dLse, dRows);
  alertOfAtomicSums(pass, call);
  pass.layGradients();
  pass.run();
  std::vector<at::Tensor> gradients(call.prepared.size());
  for (const CallPlan::Gradient &gradient : pass.plan.gradients) {
    const at::Tensor &sums = pass[gradient.buffer];
    gradients[gradient.input] = gradient.axes.empty() ? sums : summed(sums, gradient, call);
  }
  return gradients;
}

at::Tensor runSelect(const Binding &call) {
  if (call.selection.defined()) return call.selection.clone();
  Execution pass(call, call.form(Purpose::Select));
  pass.run();
  return pass[pass.plan.selection];
}

}  // namespace weft::ops
