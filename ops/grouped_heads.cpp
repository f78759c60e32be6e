#include "ops/grouped_heads.h"

#include <algorithm>
#include <limits>

#include <ATen/Parallel.h>
#include <torch/utils.h>

#include "compiler/grouped.h"
#include "ops/made_variants.h"

namespace weft::ops {
namespace {

std::shared_ptr<const Variant> groupedVariant(const std::shared_ptr<const Variant> &variant, bool pieces) {
  static MadeVariants made([](const Variant &variant, bool pieces) -> std::optional<std::string> {
    if (!canBeGrouped(variant) || (pieces && !canBeInPieces(variant))) return std::nullopt;
    return sourceWithGrouped(variant, pieces);
  });
  return made.of(variant, pieces);
}

int64_t piecesOf(int64_t keys, int64_t groups, const Device &device) {
  const bool cpu = device.kind == Device::Kind::Cpu;
  // A GPU takes as long to launch what joins pieces as a program takes to read thousands of keys.
  const int64_t readers = cpu ? at::get_num_threads() : 128, least = cpu ? 0 : 8192;
  return groups < readers && keys >= least ? std::max<int64_t>(1, (keys + keysOfPiece - 1) / keysOfPiece) : 1;
}

}  // namespace

int64_t piecesOfKeys(const Variant &variant, int64_t keys, int64_t groups, const Device &device) {
  return canBeGrouped(variant) && canBeInPieces(variant) ? piecesOf(keys, groups, device) : 1;
}

GroupedCall groupedCall(const std::shared_ptr<const Variant> &variant, const Arguments &arguments,
                        const Device &device) {
  const auto size = [&](const char *dim) { return arguments.size(dim).expect_int(); };
  const int64_t groups = size("G");
  if (size("T") != 1 || groups < 1) return {};
  const int64_t pieces = piecesOf(size("S"), groups, device);
  if (pieces > 1)
    if (const auto shared = groupedVariant(variant, true)) return {shared, pieces};
  return size("H") == groups ? GroupedCall{} : GroupedCall{groupedVariant(variant, false)};
}

std::vector<at::Tensor> groupedTensors(const GroupedCall &grouped, const Arguments &arguments, at::TensorList tensors) {
  const Signature &signature = *arguments.signature;
  const int64_t groups = arguments.size("G").expect_int(), heads = arguments.size("H").expect_int() / groups;
  std::vector<at::Tensor> all = tensors.vec();
  const auto &inputs = signature.variant->inputs();
  for (size_t n = 0; n < inputs.size(); ++n) {
    at::Tensor &tensor = all[static_cast<size_t>(signature.places[n])];
    const std::vector<std::string> &dims = inputs[n].dims;
    const int64_t head = find(dims, "H"), query = find(dims, "T");
    if (head >= 0) {
      // Of the one query there is a row of each head; else heads are parted where they are.
      tensor = tensor.unflatten(head, {groups, heads});
      if (grouped.pieces > 1) tensor = tensor.repeat_interleave(grouped.pieces, head);
      if (query >= 0) tensor = tensor.squeeze(query > head ? query + 1 : query);
      if (query >= 0) tensor = tensor.movedim(query > head ? head + 1 : head, query);
    } else if (query >= 0) {
      std::vector<int64_t> sizes = tensor.sizes().vec();
      sizes[static_cast<size_t>(query)] = heads;
      tensor = tensor.expand(sizes);
    }
  }
  return all;
}

at::Tensor joinedHeads(const GroupedCall &grouped, const at::Tensor &o, const at::Tensor &logSumExp) {
  at::Tensor all = o;
  if (grouped.pieces > 1) {
    const auto parts = [&](const at::Tensor &rows) { return rows.unflatten(1, {-1, grouped.pieces}); };
    all = parts(o);
    // Finite, however little a query sees: of nothing at all o is 0, whatever its share.
    constexpr double least = std::numeric_limits<float>::lowest();
    if (logSumExp.defined()) all = all * parts(logSumExp).clamp_min(least).softmax(2).unsqueeze(-1);
    all = all.sum(2).to(o.scalar_type());
  }
  return all.reshape({all.size(0), all.size(1) * all.size(2), 1, all.size(3)});
}

}  // namespace weft::ops
