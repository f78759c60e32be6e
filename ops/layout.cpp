#include "ops/layout.h"

namespace weft::ops {

bool tokensFirst(const at::Tensor &rows) { return rows.sym_stride(2) > rows.sym_stride(1); }

bool outputHasTokensFirst(const Signature &signature, at::TensorList tensors) {
  const auto &inputs = signature.variant->inputs();
  for (size_t at = 0; at < inputs.size(); ++at)
    if (inputs[at].isRow && inputs[at].querySide) return tokensFirst(tensors[signature.places[at]]);
  return false;
}

at::Tensor emptyRows(c10::SymIntArrayRef shape, bool tokensFirst, const at::TensorOptions &options) {
  if (!tokensFirst) return at::empty_symint(shape, options);
  return at::empty_symint({shape[0], shape[2], shape[1], shape[3]}, options).transpose(1, 2);
}

}  // namespace weft::ops
