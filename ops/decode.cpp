#include "ops/decode.h"

#include <torch/library.h>

#include "ops/binding.h"
#include "ops/variant_library.h"

namespace weft::ops {
namespace {

/// Small tiles of queries, of which one row counts; the last tiles of all heads are the first programs.
constexpr int tileQ = 16;

KernelSet &decodeSet(std::shared_ptr<const Variant> variant, const TuningKey &key, const Device &device) {
  using Key = std::tuple<const Variant *, ElementType, std::map<std::string, int64_t>, int, int>;
  static std::mutex mutex;
  static std::map<Key, std::unique_ptr<KernelSet>> sets;
  std::lock_guard lock(mutex);
  auto &slot = sets[{variant.get(), key.type, key.headDims, static_cast<int>(device.kind), device.index}];
  if (!slot) {
    Schedule schedule = defaultSchedule(*variant, targetOf(device), key.headDims, false);
    schedule.tileQ = tileQ;  // divides every tile that a variant can select
    schedule.order = Order::HeadsInner;
    slot = std::make_unique<KernelSet>(variant, key.type, key.headDims, device, schedule);
  }
  return *slot;
}

at::Tensor decodeLast(c10::string_view variantText, const c10::List<std::string> &nameList, at::TensorList tensors) {
  std::shared_ptr<const Variant> variant;
  try {
    variant = findVariant(std::string(variantText));
  } catch (const std::invalid_argument &error) {
    TORCH_CHECK(false, "weft: ", error.what());
  }
  const std::string where = "weft: decode '" + variant->name() + "': ";
  const std::vector<std::string> names(nameList.begin(), nameList.end());
  const TuningKey key = tuningKey(*variant, names, tensors, false);  // checks names and 'v'
  at::Tensor value;
  for (size_t at = 0; at < names.size(); ++at)
    if (names[at] == "v") value = tensors[at];
  TORCH_CHECK(value.dim() == 4, where, "expected input 'v' with 4 dims, got ", value.dim());
  const int64_t S = value.size(2), B = value.size(0), E = value.size(3);
  TORCH_CHECK(S > 0, where, "expected at least one key");
  // The one query stands for all T = S of them: a stride of 0.
  std::vector<at::Tensor> all = tensors.vec();
  for (const InputInfo &input : variant->inputs())
    for (size_t at = 0; at < names.size(); ++at) {
      if (names[at] != input.name || all[at].dim() != static_cast<int64_t>(input.dims.size())) continue;  // the binding says so
      std::vector<int64_t> sizes = all[at].sizes().vec();
      for (size_t dim = 0; dim < input.dims.size(); ++dim) {
        // What a selection pools is needed whole: the tile before this one chooses.
        if (input.dims[dim] != "T" || sizes[dim] == S) continue;
        TORCH_CHECK(sizes[dim] == 1 && !input.isPooled, where, "expected dim T of input '", input.name, "' to be ",
                    input.isPooled ? "all tokens so far, " + std::to_string(S) : std::string("1, the newest token"), ", got ", sizes[dim]);
        sizes[dim] = S;
      }
      all[at] = all[at].expand(sizes);
    }
  at::NoGradGuard guard;
  const Device device = deviceOf(tensors);
  KernelSet &set = decodeSet(variant, key, device);
  Binding call(set, names, all);
  call.lastTileOnly = true;
  // Rows of the last tile: the kernel writes all of them, and none before.
  const int64_t first = (S - 1) / tileQ * tileQ, count = S - first;
  at::Tensor rows = at::empty({B, call.H, count, E}, value.options().requires_grad(false));
  char *begin = static_cast<char *>(rows.data_ptr()) - first * E * rows.element_size();
  call.bind("o", at::from_blob(begin, {B, call.H, S, E}, {call.H * count * E, count * E, E, 1}, rows.options()));
  call.bind("lse", at::empty({B, call.H, S}, rows.options().dtype(at::kFloat)));
  call.plan();
  call.run("forward");
  call.checkStatus();
  return rows.slice(2, count - 1, count);
}

at::Tensor decodeMeta(c10::string_view, const c10::List<std::string> &nameList, at::TensorList tensors) {
  at::Tensor query, value;
  for (size_t at = 0; at < nameList.size(); ++at) {
    if (nameList.get(at) == "q") query = tensors[at];
    if (nameList.get(at) == "v") value = tensors[at];
  }
  TORCH_CHECK(query.defined() && value.defined(), "weft: expected tensors named 'q' and 'v' among the names");
  return at::empty_symint({query.sym_size(0), query.sym_size(1), 1, value.sym_size(3)}, value.options());
}

}  // namespace

torch::Tensor decode(const std::string &variant, const std::vector<std::string> &names, const std::vector<torch::Tensor> &tensors) {
  c10::List<std::string> list;
  for (const std::string &name : names) list.push_back(name);
  return decodeLast(variant, list, tensors);
}

TORCH_LIBRARY_FRAGMENT(weft, library) { library.def("decode(str variant, str[] names, Tensor[] tensors) -> Tensor"); }
TORCH_LIBRARY_IMPL(weft, CPU, library) { library.impl("decode", decodeLast); }
TORCH_LIBRARY_IMPL(weft, CUDA, library) { library.impl("decode", decodeLast); }
TORCH_LIBRARY_IMPL(weft, Meta, library) { library.impl("decode", decodeMeta); }

}  // namespace weft::ops
