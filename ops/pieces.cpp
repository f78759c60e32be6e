#include "ops/pieces.h"

#include <algorithm>
#include <numeric>

#include <torch/utils.h>

#include "ops/call_site.h"
#include "ops/inner_calls.h"
#include "ops/kept_pattern.h"

namespace weft::ops {
namespace {

using at::Tensor;

/// The share of the mass that one of two log-sum-exps has: 0 of nothing. Both shares add up to 1, however large the
/// numbers are.
Tensor shareOf(const Tensor &part, const Tensor &other) {
  return at::where(at::isneginf(part), at::zeros({}, part.options()), (part - other).sigmoid());
}

}  // namespace

std::tuple<Tensor, Tensor> forwardOfPiece(const std::string &variant, const Names &names,
                                          const std::vector<Tensor> &tensors) {
  at::AutoDispatchBelowADInplaceOrView guard;
  return callForward(variant, toList(names), tensors);
}

std::vector<Tensor> backwardOfPiece(const std::string &variant, const Names &names, const std::vector<Tensor> &tensors,
                                    const Tensor &o, const Tensor &rows, const Tensor &dO) {
  at::AutoDispatchBelowADInplaceOrView guard;
  std::vector<Tensor> gradients = callBackward(variant, toList(names), tensors, o, rows, dO, std::nullopt);
  for (size_t at = 0; at < gradients.size(); ++at)
    if (!tensors[at].is_floating_point()) gradients[at] = Tensor();
  return gradients;
}

KeyRange keptKeys(const std::string &variant, const Names &names, const std::vector<Tensor> &tensors) {
  at::NoGradGuard guard;
  const auto site = callSite(variant, toList(names), tensors);
  const Binding call = bindCall(*site, tensors, false);
  if (call.T == 0 || call.S == 0) return {};
  const auto [first, end] = KeptPattern(call).keptKeys();
  if (end <= first) return {};
  // Tiles of chosen keys are not tiles of keys.
  if (call.set.variant->selectsKeys()) return {0, call.S};
  int64_t tile = call.set.schedule.tileK;
  if (call.set.variant->selects()) tile = std::lcm(tile, int64_t{call.set.variant->selection().rounds.back().tileK});
  return {first / tile * tile, std::min((end + tile - 1) / tile * tile, call.S)};
}

Tensor selectTiles(const std::string &variant, const Names &names, const std::vector<Tensor> &tensors) {
  return callSelect(variant, toList(names), tensors);
}

JoinedRows::JoinedRows(const Variant &variant) : byLogSumExp(joiningOf(variant) == Joining::LogSumExp) {
  TORCH_CHECK(joiningOf(variant) != Joining::None, "weft: variant '", variant.name(),
              "': a query needs all of its keys at once");
  const std::vector<std::string> names = variant.keptRows();
  scale = std::ranges::find(names, "row.scale") - names.begin();
}

void JoinedRows::add(const Tensor &o, const Tensor &rows) {
  if (empty()) {
    sum = o.to(rows.scalar_type());
    kept = rows;
    return;
  }
  if (!byLogSumExp) {
    sum.add_(o);
    return;
  }
  // p = w shift exp(s - peak) scale for every key, with the peak, the scale and the shift of the piece that has most of
  // the mass: those of another might leave the range of f32.
  const Tensor before = kept[0], added = rows[0], all = at::logaddexp(before, added);
  const Tensor shareBefore = shareOf(before, added), shareAdded = shareOf(added, before), more = added > before;
  Tensor joined = at::where(more, rows, kept);
  joined[scale].mul_(at::where(more, shareAdded, shareBefore));
  joined[0].copy_(all);
  sum = sum * shareBefore.unsqueeze(-1) + o * shareAdded.unsqueeze(-1);
  kept = joined;
}

}  // namespace weft::ops
