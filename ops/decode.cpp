#include "ops/decode.h"

#include <numeric>

#include <torch/library.h>

#include "ops/binding.h"
#include "ops/variant_library.h"

namespace weft::ops {
namespace {

/// Small tiles of queries, of which one row counts; the last tiles of all heads are the first programs.
constexpr int tileQ = 16;

/// Keys and values in pages: rows of [pages, G, page, D] tensors, which ones a table says.
struct Pages {
  at::Tensor table;   ///< int32 [B, pages a sequence]
  int64_t length;     ///< tokens, of every sequence
};

KernelSet &decodeSet(std::shared_ptr<const Variant> variant, const TuningKey &key, const Device &device, int64_t page) {
  using Key = std::tuple<const Variant *, ElementType, std::map<std::string, int64_t>, int, int, int>;
  static std::mutex mutex;
  static std::map<Key, std::unique_ptr<KernelSet>> sets;
  std::lock_guard lock(mutex);
  Schedule schedule = defaultSchedule(*variant, targetOf(device), key.headDims, false);
  schedule.tileQ = tileQ;  // divides every tile that a variant can select
  schedule.order = Order::HeadsInner;
  if (page > 0) schedule.tileK = static_cast<int>(std::gcd<int64_t>(schedule.tileK, page));  // a tile lies in one page
  auto &slot = sets[{variant.get(), key.type, key.headDims, static_cast<int>(device.kind), device.index, page > 0 ? schedule.tileK : 0}];
  if (!slot) slot = std::make_unique<KernelSet>(variant, key.type, key.headDims, device, schedule, page > 0);
  return *slot;
}

at::Tensor decodeNewest(c10::string_view variantText, const c10::List<std::string> &nameList, at::TensorList tensors, const Pages *pages) {
  std::shared_ptr<const Variant> variant;
  try {
    variant = findVariant(std::string(variantText));
  } catch (const std::invalid_argument &error) {
    TORCH_CHECK(false, "weft: ", error.what());
  }
  const std::string where = std::string("weft: ") + (pages ? "decode_paged" : "decode") + " '" + variant->name() + "': ";
  const std::vector<std::string> names(nameList.begin(), nameList.end());
  const TuningKey key = tuningKey(*variant, names, tensors, false);  // checks names and 'v'
  at::Tensor value;
  for (size_t at = 0; at < names.size(); ++at)
    if (names[at] == "v") value = tensors[at];
  TORCH_CHECK(value.dim() == 4, where, "expected input 'v' with 4 dims, got ", value.dim());
  const int64_t S = pages ? pages->length : value.size(2), B = pages ? pages->table.size(0) : value.size(0), E = value.size(3), page = pages ? value.size(2) : 0;
  TORCH_CHECK(S > 0, where, "expected at least one key");
  if (pages) {
    TORCH_CHECK(page >= 16 && page % 16 == 0, where, "expected pages of a multiple of 16 tokens, got ", page);
    TORCH_CHECK(pages->table.size(1) * page >= S, where, "expected a page table with room for ", S, " tokens, got ", pages->table.size(1), " pages of ", page);
  }
  std::vector<at::Tensor> all = tensors.vec();
  std::vector<std::pair<std::string, at::Tensor>> pools;
  for (const InputInfo &input : variant->inputs())
    for (size_t at = 0; at < names.size(); ++at) {
      if (names[at] != input.name || all[at].dim() != static_cast<int64_t>(input.dims.size())) continue;  // the binding says so
      std::vector<int64_t> sizes = all[at].sizes().vec();
      if (pages && input.isRow && input.dims[2] == "S") {
        TORCH_CHECK(sizes[2] == page && sizes[0] == value.size(0), where, "expected input '", input.name, "' in ", value.size(0), " pages of ", page,
                    " tokens like 'v', got ", sizes[0], " of ", sizes[2]);
        // For its shape alone: the kernels go by the table.
        pools.push_back({input.name, all[at]});
        all[at] = all[at].slice(0, 0, 1).slice(2, 0, 1).expand({B, sizes[1], S, sizes[3]});
        continue;
      }
      // The one query stands for all T = S of them: a stride of 0.
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
  KernelSet &set = decodeSet(variant, key, device, page);
  Binding call(set, names, all);
  call.lastTileOnly = true;
  for (const auto &[name, pool] : pools) call.bind(name, readable(pool, device));
  if (pages) {
    call.bind("pages", pages->table);
    call.setDim("page", page);
    call.setDim("pages", pages->table.size(1));
  }
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

at::Tensor decodeLast(c10::string_view variant, const c10::List<std::string> &names, at::TensorList tensors) {
  return decodeNewest(variant, names, tensors, nullptr);
}

at::Tensor decodePages(c10::string_view variant, const c10::List<std::string> &names, at::TensorList tensors, const at::Tensor &table, int64_t length) {
  TORCH_CHECK(table.dim() == 2 && at::isIntegralType(table.scalar_type(), false), "weft: decode_paged: expected a page table of integers [B, pages], got ",
              table.scalar_type(), " ", table.sizes());
  at::Tensor entries = table.to(at::kInt).contiguous();
  for (size_t at = 0; at < names.size() && at < tensors.size(); ++at)
    if (names.get(at) == "v" && tensors[at].dim() == 4 && table.numel() > 0 && !table.is_cuda()) {
      // On a GPU the look would have to be waited for.
      const int64_t page = std::max<int64_t>(tensors[at].size(2), 1), used = std::min<int64_t>((length + page - 1) / page, entries.size(1));
      const at::Tensor own = entries.slice(1, 0, used);
      TORCH_CHECK(used == 0 || (own.min().item<int>() >= 0 && own.max().item<int>() < tensors[at].size(0)), "weft: decode_paged: expected page numbers from 0 to ",
                  tensors[at].size(0) - 1, ", got ", own.min().item<int>(), " to ", own.max().item<int>());
    }
  const Pages pages{entries, length};
  return decodeNewest(variant, names, tensors, &pages);
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

void implementDecode(torch::Library &library) {
  library.impl("decode", decodeLast);
  library.impl("decode_paged", decodePages);
}

TORCH_LIBRARY_FRAGMENT(weft, library) {
  library.def("decode(str variant, str[] names, Tensor[] tensors) -> Tensor");
  library.def("decode_paged(str variant, str[] names, Tensor[] tensors, Tensor pages, int length) -> Tensor");
}
TORCH_LIBRARY_IMPL(weft, CPU, library) { implementDecode(library); }
TORCH_LIBRARY_IMPL(weft, CUDA, library) { implementDecode(library); }
TORCH_LIBRARY_IMPL(weft, Meta, library) { library.impl("decode", decodeMeta); }

}  // namespace weft::ops
