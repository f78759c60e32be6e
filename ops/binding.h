// A call's tensors, checked and prepared, and its dims: what every pass of the call starts from.
#pragma once

#include <string>
#include <vector>

#include <torch/types.h>

#include "ops/arguments.h"
#include "ops/kernel_set.h"

namespace weft::ops {

class Binding {
 public:
  /// `tensors` are those that `arguments` tell of.
  Binding(KernelSet &set, const Arguments &arguments, at::TensorList tensors);
  /// Checks every tensor against the signature. Throws c10::Error.
  Binding(KernelSet &set, const std::vector<std::string> &names, at::TensorList tensors);

  /// The form of a pass over these tensors.
  CallForm form(Purpose purpose) const;
  /// Types and place of small tensors beside the inputs.
  at::TensorOptions options(at::ScalarType type) const;

  KernelSet &set;
  int64_t B = 0, H = 0, G = 0, T = 0, S = 0;
  std::vector<int64_t> dims;               ///< of dimNames
  std::vector<at::Tensor> prepared;        ///< the inputs, in the signature's order
  c10::SmallVector<bool, 12> tokensFirst;  ///< of the inputs that are rows: how they came (see layout.h)
  bool outputTokensFirst = false;
  at::Tensor seed, selection;  ///< where given

 private:
  void take(const Arguments &arguments, at::TensorList tensors);
};

/// How a call's gradients are computed where its schedule asks for `asked`: what torch's deterministic mode allows and
/// the variant has.
BackwardForm backwardForm(const Binding &call, BackwardForm asked);

}  // namespace weft::ops
