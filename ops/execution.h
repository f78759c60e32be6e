// Executes one plan over a bound call: finds memory, in torch's tensors, for what the plan has beside the inputs.
#pragma once

#include <vector>

#include <torch/types.h>

#include "ops/binding.h"

namespace weft::ops {

class Execution {
 public:
  /// `more`: the plan's dims that are not of the signature. Compiles what is not compiled. Throws c10::Error.
  Execution(const Binding &binding, const CallForm &form, const std::vector<int64_t> &more = {});
  Execution(const Execution &) = delete;

  /// Where a buffer of the plan lies, in its shape.
  void bind(int buffer, const at::Tensor &tensor);
  /// The same of a contiguous part of a tensor that outlives this.
  void bind(int buffer, void *data) { memory[buffer].data = data; }
  /// Memory for gradients of rows that lie in another order than the kernels' own (see layout.h).
  void layGradients();
  /// Memory for every buffer that has none and is used, or is a result; then all steps. Throws c10::Error where a kept
  /// pair read outside an input (on a GPU with WEFT_CHECK alone).
  void run();

  /// Undefined: not used.
  const at::Tensor &operator[](int buffer) const { return tensors[buffer]; }
  int64_t size(const Extent &extent) const { return valueOf(extent, dims.data()); }

  const Call &call;
  const CallPlan &plan;

 private:
  std::vector<int64_t> shape(int buffer) const { return shapeOf(plan.buffers[buffer], dims.data()); }
  void allocate(int buffer);
  void checkStatus() const;
  bool onHost() const { return binding.set.device.kind != Device::Kind::Cuda; }

  const Binding &binding;
  std::vector<int64_t> dims;
  std::vector<at::Tensor> tensors;
  std::vector<at::Tensor> standIns;  ///< of tensors without elements
  std::vector<Memory> memory;
  int32_t status = 0;  ///< where the host's memory is the device's
};

}  // namespace weft::ops
