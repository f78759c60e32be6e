#include "ops/layout.h"

namespace weft::ops {

bool tokensFirst(const at::Tensor &rows) { return rows.sym_stride(2) > rows.sym_stride(1); }

bool outputHasTokensFirst(const Signature &signature, at::TensorList tensors) {
  return signature.queries >= 0 && tokensFirst(tensors[signature.queries]);
}

at::Tensor emptyRows(c10::SymIntArrayRef shape, bool tokensFirst, const at::TensorOptions &options) {
  if (!tokensFirst) return at::empty_symint(shape, options);
  return at::empty_symint({shape[0], shape[2], shape[1], shape[3]}, options).transpose(1, 2);
}

}  // namespace weft::ops
