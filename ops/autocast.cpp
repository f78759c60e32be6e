// Under autocast the operands of dots and v take the autocast type, as in PyTorch's own attention.
#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include "ops/arguments.h"

namespace weft::ops {
namespace {

std::vector<at::Tensor> castOperands(c10::string_view variant, const c10::List<std::string> &names,
                                     at::TensorList tensors) {
  std::vector<at::Tensor> list = tensors.vec();
  const std::shared_ptr<const Variant> parsed = variantOrThrow(variant);
  const at::DeviceType device = tensors.empty() ? at::kCPU : tensors[0].device().type();
  const at::ScalarType type = at::autocast::get_autocast_dtype(device);
  for (size_t at = 0; at < list.size() && at < names.size(); ++at)
    for (const InputInfo &input : parsed->inputs())
      if (input.name == names.get(at) && input.isRow) list[at] = at::autocast::cached_cast(type, list[at], device);
  return list;
}

/// An operator that takes a variant, names, tensors and `More`.
template <const char *const &name, class Result, class... More>
Result cast(c10::string_view variant, const c10::List<std::string> &names, at::TensorList tensors, More... more) {
  c10::impl::ExcludeDispatchKeyGuard guard(c10::autocast_dispatch_keyset);
  static auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow(name, "")
          .template typed<Result(c10::string_view, const c10::List<std::string> &, at::TensorList, More...)>();
  return op.call(variant, names, castOperands(variant, names, tensors), more...);
}

constexpr const char *attention = "weft::attention", *withLse = "weft::attention_with_lse", *select = "weft::select",
                     *decode = "weft::decode", *decodePaged = "weft::decode_paged";

void implement(torch::Library &library) {
  library.impl("attention", cast<attention, at::Tensor>);
  library.impl("attention_with_lse", cast<withLse, std::tuple<at::Tensor, at::Tensor>>);
  library.impl("select", cast<select, at::Tensor>);
  library.impl("decode", cast<decode, at::Tensor>);
  library.impl("decode_paged", cast<decodePaged, at::Tensor, const at::Tensor &, int64_t>);
}
TORCH_LIBRARY_IMPL(weft, AutocastCPU, library) { implement(library); }
TORCH_LIBRARY_IMPL(weft, AutocastCUDA, library) { implement(library); }

}  // namespace
}  // namespace weft::ops
