#include "ops/decode.h"

#include <torch/library.h>
#include <torch/utils.h>

#include "compiler/lengths.h"
#include "compiler/origin.h"
#include "ops/arguments.h"
#include "ops/broadcast.h"
#include "ops/decode_schedule.h"
#include "ops/devices.h"
#include "ops/execution.h"
#include "ops/inner_calls.h"
#include "ops/schedules.h"
#include "ops/variant_library.h"

namespace weft::ops {
namespace {

/// Keys and values in pages: rows of [pages, G, page, D] tensors, which ones a table says.
struct Pages {
  at::Tensor table;  ///< int32 [B, pages a sequence]
  int64_t length;    ///< tokens, of every sequence
};

KernelSet &decodeSet(const std::shared_ptr<const Variant> &variant, const CallShape &shape, const Device &device,
                     int64_t page, bool few) {
  using Key = std::tuple<const Variant *, ElementType, std::map<std::string, int64_t>, int, int, int, bool>;
  static std::mutex mutex;
  static std::map<Key, std::unique_ptr<KernelSet>> sets;
  std::lock_guard lock(mutex);
  const ElementType type = elementType(shape.type);
  const Schedule schedule = decodeSchedule(*variant, type, shape.headDims, device, page, few);
  auto &slot = sets[{variant.get(), type, shape.headDims, static_cast<int>(device.kind), device.index,
                     page > 0 ? schedule.tileK : 0, few}];
  if (!slot) slot = std::make_unique<KernelSet>(variant, type, shape.headDims, device, schedule);
  return *slot;
}

/// The variant with the parameter `lengths`, or else `origin`: its queries are the newest ones alone. Null where it is
/// made of whole sequences, or its text would become too long.
std::shared_ptr<const Variant> withNewest(const std::shared_ptr<const Variant> &variant, bool lengths) {
  if (!lengths && (!standsAlone(*variant) || hasOrigin(*variant) || hasLengths(*variant))) return nullptr;
  struct Made {
    std::shared_ptr<const Variant> of, variant;
  };
  static std::mutex mutex;
  static std::map<std::pair<const Variant *, bool>, Made> all;
  std::lock_guard lock(mutex);
  Made &made = all[{variant.get(), lengths}];
  if (!made.of) {
    made.of = variant;
    const ParseResult parsed = parse(lengths ? sourceWithLengths(*variant) : sourceWithOrigin(*variant), "decode");
    if (parsed.diagnostics.empty()) made.variant = variantOrThrow(parsed.variants[0]->source());
  }
  return made.variant;
}

/// The variant that the call computes.
std::shared_ptr<const Variant> variantOfDecode(c10::string_view text, const std::vector<std::string> &names,
                                               at::TensorList tensors, const char *operation) {
  const std::shared_ptr<const Variant> found = variantOrThrow(text);
  const bool own = std::ranges::any_of(found->inputs(), [](const InputInfo &input) { return input.name == "lengths"; });
  const bool lengths = find(names, "lengths") >= 0 && !own;
  TORCH_CHECK(!lengths || (!found->selects() && !found->hasDropout()), "weft: ", operation, " '", found->name(),
              "': expected no ", found->selects() ? "'select'" : "'dropout'",
              " in a variant that is called with 'lengths': it is made for whole sequences");
  if (const auto made = withNewest(found, lengths)) return variantOfCall(made->source(), names, tensors);
  return variantOfCall(lengths ? sourceWithLengths(*found) : found->source(), names, tensors);
}
/// True where its queries are the newest ones alone.
bool ofNewest(const Variant &variant) { return hasLengths(variant) || hasOrigin(variant); }

bool inPages(const InputInfo &input, const Pages *pages) { return pages && input.isRow && input.dims[2] == "S"; }

/// The tensors as those of T = S queries of which the last one counts, without a copy; of pages, rows that stand for
/// their shape.
std::vector<at::Tensor> asLastRow(const Variant &variant, const std::vector<std::string> &names, at::TensorList tensors,
                                  const Pages *pages) {
  const std::string where = std::string("weft: ") + (pages ? "decode_paged" : "decode") + " '" + variant.name() + "': ";
  TORCH_CHECK(names.size() == tensors.size(), where, "expected as many names as tensors, got ", names.size(), " and ",
              tensors.size());
  TORCH_CHECK(find(names, "origin") < 0, where, "expected no 'origin': the newest of all tokens looks at all of them");
  const auto place = std::find(names.begin(), names.end(), "v") - names.begin();
  TORCH_CHECK(static_cast<size_t>(place) < names.size(), where, "expected a tensor named 'v' among the names");
  const at::Tensor &value = tensors[place];
  std::vector<at::Tensor> all = tensors.vec();
  if (value.dim() != 4) return all;  // the check of the arguments says so
  const c10::SymInt S = pages ? c10::SymInt(pages->length) : value.sym_size(2);
  TORCH_CHECK(S > 0, where, "expected at least one key");
  if (pages) {
    const int64_t page = value.size(2);
    TORCH_CHECK(page >= 16 && page % 16 == 0, where, "expected pages of a multiple of 16 tokens, got ", page);
    TORCH_CHECK(pages->table.size(1) * page >= S, where, "expected a page table with room for ", S, " tokens, got ",
                pages->table.size(1), " pages of ", page);
  }
  for (const InputInfo &input : variant.inputs())
    for (size_t at = 0; at < names.size(); ++at) {
      if (names[at] != input.name || all[at].dim() != static_cast<int64_t>(input.dims.size()))
        continue;  // the check of the arguments says so
      std::vector<c10::SymInt> sizes = all[at].sym_sizes().vec();
      if (inPages(input, pages)) {
        TORCH_CHECK(sizes[2] == value.sym_size(2) && sizes[0] == value.sym_size(0), where, "expected input '",
                    input.name, "' in ", value.size(0), " pages of ", value.size(2), " tokens like 'v', got ", sizes[0],
                    " of ", sizes[2]);
        TORCH_CHECK(sizes[0] > 0, where, "expected at least one page");
        all[at] = all[at].slice(0, 0, 1).slice(2, 0, 1).expand(
            {pages->table.size(0), all[at].size(1), pages->length, all[at].size(3)});
        continue;
      }
      // The one query stands for all T = S of them: a stride of 0.
      for (size_t dim = 0; dim < input.dims.size() && !hasLengths(variant); ++dim) {
        // What a selection pools is needed whole: the tile before this one chooses.
        if (input.dims[dim] != "T") continue;
        if (sizes[dim] == S) {
          if (ofNewest(variant)) {
            all[at] = all[at].narrow_symint(static_cast<int64_t>(dim), S - 1, 1);
            sizes[dim] = 1;
          }
          continue;
        }
        if (input.isPooled)
          TORCH_CHECK(false, where, "expected dim T of input '", input.name, "' to be all tokens so far, ", S, ", got ",
                      sizes[dim]);
        TORCH_CHECK(sizes[dim] == 1, where, "expected dim T of input '", input.name,
                    "' to be 1, the newest token, got ", sizes[dim]);
        if (!ofNewest(variant)) sizes[dim] = S;
      }
      all[at] = all[at].expand_symint(sizes);
    }
  return all;
}

at::Tensor decodeNewest(c10::string_view variantText, const c10::List<std::string> &nameList, at::TensorList tensors,
                        const Pages *pages) {
  std::vector<std::string> names(nameList.begin(), nameList.end());
  const char *const operation = pages ? "decode_paged" : "decode";
  const std::shared_ptr<const Variant> variant = variantOfDecode(variantText, names, tensors, operation);
  std::vector<at::Tensor> all = asLastRow(*variant, names, tensors, pages);
  if (variant->hasDropout() && find(names, "seed") < 0 && !tensors.empty()) {
    names.push_back("seed");
    all.push_back(drawnSeed(tensors[0].device()));
  }
  demandSharedKeys(*variant, operation);
  const at::Tensor &value = tensors[static_cast<size_t>(find(names, "v"))];
  if (hasOrigin(*variant)) {
    const int64_t count = pages ? pages->length : value.size(2);
    names.emplace_back("origin");
    all.push_back(at::tensor({count - 1, int64_t{0}, count, count}, at::kLong));
  }
  const Signature signature(variant, names, all.size());
  if (!pages) all = broadcast(signature, all).value_or(all);  // pages are no batch
  const Arguments arguments = checkArguments(signature, all);
  at::NoGradGuard guard;
  const Device device = deviceOf(tensors);
  const bool few = ofNewest(*variant) && fewQueries(arguments.size("T").expect_int(), device);
  KernelSet &set = decodeSet(variant, shapeOf(arguments), device, pages ? value.size(2) : 0, few);
  const Binding call(set, arguments, all);
  CallForm form = call.form(Purpose::Forward);
  form.lastTileOnly = !ofNewest(*variant);
  form.paged = pages != nullptr;
  std::vector<int64_t> pageDims;
  if (pages) pageDims = {value.size(2), pages->table.size(1), value.size(0)};
  Execution pass(call, form, pageDims);
  if (pages) {
    for (size_t at = 0; at < variant->inputs().size(); ++at)
      if (inPages(variant->inputs()[at], pages))
        pass.bind(static_cast<int>(at), readable(tensors[signature.places[at]], device));
    pass.bind(pass.plan.pages, pages->table);
  }
  pass.run();
  const at::Tensor &rows = pass[pass.plan.o];
  if (!form.lastTileOnly) return rows;
  return rows.slice(2, rows.size(2) - 1, rows.size(2)).contiguous();
}

at::Tensor decodeLast(c10::string_view variant, const c10::List<std::string> &names, at::TensorList tensors) {
  return decodeNewest(variant, names, tensors, nullptr);
}

void checkTable(const at::Tensor &table, at::TensorList tensors) {
  TORCH_CHECK(table.dim() == 2 && at::isIntegralType(table.scalar_type(), false),
              "weft: decode_paged: expected a page table of integers [B, pages], got ", table.scalar_type(), " ",
              table.sizes());
  TORCH_CHECK(tensors.empty() || table.device() == tensors[0].device(),
              "weft: decode_paged: expected the page table on ", tensors[0].device(), ", got it on ", table.device());
}

at::Tensor decodePages(c10::string_view variant, const c10::List<std::string> &names, at::TensorList tensors,
                       const at::Tensor &table, int64_t length) {
  checkTable(table, tensors);
  const at::Tensor entries = as32Bits(table, [] { return std::string("weft: decode_paged: the page table"); });
  for (size_t at = 0; at < names.size() && at < tensors.size(); ++at)
    if (names.get(at) == "v" && tensors[at].dim() == 4 && table.numel() > 0 && !table.is_cuda()) {
      // On a GPU the look would have to be waited for.
      const int64_t page = std::max<int64_t>(tensors[at].size(2), 1),
                    used = std::min<int64_t>((length + page - 1) / page, entries.size(1));
      const at::Tensor own = entries.slice(1, 0, used);
      TORCH_CHECK(used == 0 || (own.min().item<int>() >= 0 && own.max().item<int>() < tensors[at].size(0)),
                  "weft: decode_paged: expected page numbers from 0 to ", tensors[at].size(0) - 1, ", got ",
                  own.min().item<int>(), " to ", own.max().item<int>());
    }
  const Pages pages{entries, length};
  return decodeNewest(variant, names, tensors, &pages);
}

at::Tensor shapeOnly(c10::string_view variantText, const c10::List<std::string> &nameList, at::TensorList tensors,
                     const Pages *pages) {
  const std::vector<std::string> names(nameList.begin(), nameList.end());
  const std::shared_ptr<const Variant> variant =
      variantOfDecode(variantText, names, tensors, pages ? "decode_paged" : "decode");
  std::vector<at::Tensor> all = asLastRow(*variant, names, tensors, pages);
  demandSharedKeys(*variant, pages ? "decode_paged" : "decode");
  const Signature signature(variant, names, all.size());
  if (!pages) all = broadcast(signature, all).value_or(all);
  const Arguments arguments = checkArguments(signature, all);
  const at::Tensor &value = tensors[signature.places[variant->keySets()[0].values]];
  const c10::SymInt rows = hasLengths(*variant) ? arguments.size("T") : c10::SymInt(1);
  return at::empty_symint({arguments.size("B"), arguments.size("H"), rows, value.sym_size(3)}, value.options());
}
at::Tensor decodeMeta(c10::string_view variant, const c10::List<std::string> &names, at::TensorList tensors) {
  return shapeOnly(variant, names, tensors, nullptr);
}
at::Tensor decodePagesMeta(c10::string_view variant, const c10::List<std::string> &names, at::TensorList tensors,
                           const at::Tensor &table, int64_t length) {
  checkTable(table, tensors);
  const Pages pages{table, length};
  return shapeOnly(variant, names, tensors, &pages);
}

}  // namespace

torch::Tensor decode(const std::string &variant, const std::vector<std::string> &names,
                     const std::vector<torch::Tensor> &tensors) {
  return decodeLast(variant, toList(names), tensors);
}

torch::Tensor decodePaged(const std::string &variant, const std::vector<std::string> &names,
                          const std::vector<torch::Tensor> &tensors, const torch::Tensor &pages, int64_t length) {
  return decodePages(variant, toList(names), tensors, pages, length);
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
TORCH_LIBRARY_IMPL(weft, Meta, library) {
  library.impl("decode", decodeMeta);
  library.impl("decode_paged", decodePagesMeta);
}

}  // namespace weft::ops
