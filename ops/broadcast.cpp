#include "ops/broadcast.h"

#include <array>

namespace weft::ops {
namespace {

/// Positions in the signature's dims: B, H, G, T, S.
constexpr int named = 5, batch = 0, group = 2;

bool isOne(const c10::SymInt &size) { return size.maybe_as_int() == 1; }

}  // namespace

std::optional<std::vector<at::Tensor>> broadcast(const Signature &signature, at::TensorList tensors) {
  const auto &inputs = signature.variant->inputs();
  // Of each dim a tensor that has more than one of it, and those that have one.
  std::array<const c10::SymInt *, named> size{};
  std::array<bool, named> one{};
  auto visit = [&](auto &&own) {
    for (size_t n = 0; n < inputs.size(); ++n) {
      const at::Tensor &tensor = tensors[signature.places[n]];
      if (tensor.dim() != static_cast<int64_t>(inputs[n].dims.size())) return false;  // the check of arguments says so
      for (size_t d = 0; d < inputs[n].dims.size(); ++d) {
        const int position = signature.inputDims[n][d];
        if (position < named && position != group) own(n, d, position, tensor.sym_sizes()[d]);
      }
    }
    return true;
  };
  if (signature.names.size() != tensors.size()) return std::nullopt;
  const bool fit = visit([&](size_t, size_t, int position, const c10::SymInt &own) {
    if (isOne(own)) one[position] = true;
    else if (!size[position]) size[position] = &own;
  });
  bool any = false;
  for (int position = 0; position < named; ++position) any |= one[position] && size[position];
  if (!fit || !any) return std::nullopt;
  std::vector<at::Tensor> wide = tensors.vec();
  std::vector<std::vector<c10::SymInt>> shapes(inputs.size());
  bool changed = false;
  visit([&](size_t n, size_t d, int position, const c10::SymInt &own) {
    if (!isOne(own) || !size[position] || (position != batch && inputs[n].isRow)) return;
    if (shapes[n].empty()) shapes[n] = tensors[signature.places[n]].sym_sizes().vec();
    shapes[n][d] = *size[position];
    changed = true;
  });
  if (!changed) return std::nullopt;
  for (size_t n = 0; n < inputs.size(); ++n)
    if (!shapes[n].empty()) wide[signature.places[n]] = wide[signature.places[n]].expand_symint(shapes[n]);
  return wide;
}

}  // namespace weft::ops
