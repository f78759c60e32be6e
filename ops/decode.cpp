#include "ops/decode.h"

#include <algorithm>

#include <torch/library.h>
#include <torch/utils.h>

#include "compiler/lengths.h"
#include "compiler/origin.h"
#include "ops/arguments.h"
#include "ops/broadcast.h"
#include "ops/decode_schedule.h"
#include "ops/devices.h"
#include "ops/execution.h"
#include "ops/grouped_heads.h"
#include "ops/inner_calls.h"
#include "ops/made_variants.h"
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
  static MadeVariants made([](const Variant &variant, bool lengths) -> std::optional<std::string> {
    if (lengths) return sourceWithLengths(variant);
    if (!standsAlone(variant) || hasOrigin(variant) || hasLengths(variant)) return std::nullopt;
    return sourceWithOrigin(variant);
  });
  return made.of(variant, lengths);
}

/// The variant that a call computes.
struct Computed {
  std::shared_ptr<const Variant> variant;
  enum class Queries { LastOfAll, Newest, OfLengths } queries;  ///< the last of T = S; T = 1; T of each sequence

  bool alone() const { return queries != Queries::LastOfAll; }
};
using Queries = Computed::Queries;

Computed variantOfDecode(c10::string_view text, const std::vector<std::string> &names, at::TensorList tensors,
                         const char *operation) {
  const std::shared_ptr<const Variant> found = variantOrThrow(text);
  const bool own = std::ranges::any_of(found->inputs(), [](const InputInfo &input) { return input.name == "lengths"; });
  const bool lengths = find(names, "lengths") >= 0 && !own;
  if (lengths) {
    const char *const unfit = found->selects()            ? "'select'"
                              : found->hasDropout()       ? "'dropout'"
                              : found->keyList().tile > 0 ? "lists of keys for each query, or for tiles of them,"
                                                          : nullptr;
    TORCH_CHECK(!unfit, "weft: ", operation, " '", found->name(), "': expected no ", unfit,
                " in a variant that is called with 'lengths': it is made for whole sequences");
  }
  if (const auto made = withNewest(found, lengths))
    return {variantOfCall(made->source(), names, tensors), lengths ? Queries::OfLengths : Queries::Newest};
  if (lengths) return {variantOfCall(sourceWithLengths(*found), names, tensors), Queries::OfLengths};  // says why not
  return {variantOfCall(found->source(), names, tensors), hasLengths(*found) ? Queries::OfLengths : Queries::LastOfAll};
}

bool inPages(const InputInfo &input, const Pages *pages) { return pages && input.isRow && input.dims[2] == "S"; }

/// The tensors with the queries that the variant computes: of T = S those of which the last one counts, without a copy.
/// Of pages, rows that stand for their shape.
std::vector<at::Tensor> withQueries(const Computed &computed, const std::vector<std::string> &names,
                                    at::TensorList tensors, const Pages *pages) {
  const Variant &variant = *computed.variant;
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
      for (size_t dim = 0; dim < input.dims.size() && computed.queries != Queries::OfLengths; ++dim) {
        // What a selection pools is needed whole: the tile before this one chooses.
        if (input.dims[dim] != "T") continue;
        if (sizes[dim] == S) {
          if (computed.alone()) {
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
        if (!computed.alone()) sizes[dim] = S;  // the one query stands for all of them: a stride of 0
      }
      all[at] = all[at].expand_symint(sizes);
    }
  return all;
}

/// Of tensors of a CPU: on a GPU the look would have to be waited for.
void checkLengths(const at::Tensor &lengths, int64_t most, const char *operation) {
  if (!lengths.is_cpu() || lengths.numel() == 0) return;
  const auto [least, greatest] = lengths.to(at::kLong).aminmax();
  TORCH_CHECK(least.item<int64_t>() >= 0 && greatest.item<int64_t>() <= most, "weft: ", operation,
              ": expected lengths from 0 to ", most, ", the tokens that there is room for, got ", least.item<int64_t>(),
              " to ", greatest.item<int64_t>());
}

at::Tensor decodeNewest(c10::string_view variantText, const c10::List<std::string> &nameList, at::TensorList tensors,
                        const Pages *pages) {
  std::vector<std::string> names(nameList.begin(), nameList.end());
  const char *const operation = pages ? "decode_paged" : "decode";
  const Computed computed = variantOfDecode(variantText, names, tensors, operation);
  std::vector<at::Tensor> all = withQueries(computed, names, tensors, pages);
  if (computed.variant->hasDropout() && find(names, "seed") < 0 && !tensors.empty()) {
    names.push_back("seed");
    all.push_back(drawnSeed(tensors[0].device()));
  }
  demandSharedKeys(*computed.variant, operation);
  const at::Tensor &value = tensors[static_cast<size_t>(find(names, "v"))];
  const int64_t count = pages ? pages->length : value.dim() == 4 ? value.size(2) : 1;
  if (computed.queries == Queries::Newest) {
    names.emplace_back("origin");
    all.push_back(at::tensor({count - 1, int64_t{0}, count, count}, at::kLong));
  }
  Signature signature(computed.variant, names, all.size());
  if (!pages) all = broadcast(signature, all).value_or(all);  // pages are no batch
  Arguments arguments = checkArguments(signature, all);
  at::NoGradGuard guard;
  const Device device = deviceOf(tensors);
  GroupedCall grouped;
  if (computed.alone() && (grouped = groupedCall(computed.variant, arguments, device))) {
    all = groupedTensors(grouped, arguments, all);
    signature = Signature(grouped.variant, names, all.size());
    arguments = checkArguments(signature, all);
  }
  const std::shared_ptr<const Variant> &variant = signature.variant;
  if (computed.queries == Queries::OfLengths) checkLengths(tensors[find(names, "lengths")], count, operation);
  const bool few = computed.alone() && fewQueries(arguments.size("T").expect_int(), device);
  KernelSet &set = decodeSet(variant, shapeOf(arguments), device, pages ? value.size(2) : 0, few);
  const Binding call(set, arguments, all);
  CallForm form = call.form(Purpose::Forward);
  form.lastTileOnly = !computed.alone();
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
  if (grouped)
    return joinedHeads(grouped, rows,
                       joiningOf(*variant) == Joining::LogSumExp ? pass[pass.plan.rows[0]] : at::Tensor());
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
                    used = std::clamp<int64_t>((length + page - 1) / page, 0, entries.size(1));
      at::Tensor own = entries.slice(1, 0, used);
      // Pages past a sequence's own are not looked at.
      const int lengths = find(std::vector<std::string>(names.begin(), names.end()), "lengths");
      if (lengths >= 0 && static_cast<size_t>(lengths) < tensors.size() && tensors[lengths].is_cpu() &&
          tensors[lengths].dim() == 1 && tensors[lengths].size(0) == own.size(0))
        own = own.masked_fill(at::arange(used).mul(page) >= tensors[lengths].to(at::kLong).unsqueeze(1), 0);
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
  const Computed computed = variantOfDecode(variantText, names, tensors, pages ? "decode_paged" : "decode");
  const std::shared_ptr<const Variant> &variant = computed.variant;
  std::vector<at::Tensor> all = withQueries(computed, names, tensors, pages);
  demandSharedKeys(*variant, pages ? "decode_paged" : "decode");
  const Signature signature(variant, names, all.size());
  if (!pages) all = broadcast(signature, all).value_or(all);
  const Arguments arguments = checkArguments(signature, all);
  const at::Tensor &value = tensors[signature.places[variant->keySets()[0].values]];
  const c10::SymInt rows = computed.queries == Queries::OfLengths ? arguments.size("T") : c10::SymInt(1);
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
