#include "ops/phase_order.h"

#include <torch/library.h>
#include <torch/utils.h>

#include "ops/attention.h"
#include "ops/sorted_rows.h"

namespace weft::ops {
namespace {

using torch::Tensor;

/// Of the time of a tile of span_periodic what one of span_periodic_sorted takes, with its share of the sorting;
/// measured by benchmarks/library.py.
constexpr double sortedTileCost = 1.15;

struct Call {
  std::vector<std::string> names;
  std::vector<Tensor> tensors;
};

Call unsorted(const Tensor &q, const Tensor &k, const Tensor &v, const Tensor &span, const Tensor &period,
              const Tensor &ratio) {
  return {{"q", "k", "v", "span", "period", "ratio"}, {q, k, v, span, period, ratio}};
}

Call sorted(Call call, const Tensor &order, const Tensor &phase) {
  for (int at = 0; at < 3; ++at) call.tensors[at] = inOrder(call.tensors[at], order.unsqueeze(0));
  const Tensor place = order.to(torch::kInt32);
  for (const char *name : {"place", "key_place", "phase", "key_phase"}) call.names.push_back(name);
  for (const Tensor &tensor : {place, place, phase, phase}) call.tensors.push_back(tensor);
  return call;
}

int64_t keptOf(const char *variant, const Call &call) {
  int64_t sum = 0;
  for (int64_t head : keptTiles(variant, call.names, call.tensors).kept) sum += head;
  return sum;
}

void check(const Tensor &q, const Tensor &k) {
  TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && q.size(2) == k.size(2),
              "weft: attention by phase: expected as many keys as queries, q [B, H, T, D] "
              "and k [B, G, T, D], got ",
              q.sizes(), " and ", k.sizes());
  TORCH_CHECK(k.size(1) > 0 && q.size(1) % k.size(1) == 0, "weft: attention by phase: expected G to divide H, got ",
              k.size(1), " and ", q.size(1));
}

}  // namespace

std::tuple<Tensor, Tensor> phaseOrder(const Tensor &period, int64_t length, int64_t chunk) {
  TORCH_CHECK(period.dim() == 1 && period.is_floating_point(),
              "weft: phase_order: expected periods [H] of a float type, got ", period.sizes(), " ",
              period.scalar_type());
  TORCH_CHECK(chunk >= 1 && length >= 0, "weft: phase_order: expected a chunk of at least 1, got ", chunk);
  const Tensor position = torch::arange(length, period.options().dtype(torch::kFloat64).requires_grad(false));
  const Tensor turns = period.detach().to(torch::kFloat64).abs().clamp_min(1e-3).unsqueeze(1);
  const Tensor phase = torch::remainder(position.unsqueeze(0), turns);
  // Chunks first: phases are below the period.
  const Tensor key = torch::floor(position / static_cast<double>(chunk)).unsqueeze(0) * (turns + 1) + phase;
  const Tensor order = std::get<1>(torch::sort(key, /*stable=*/true, /*dim=*/1, /*descending=*/false));
  return {order, phase.gather(1, order).to(torch::kFloat32)};
}

std::map<std::string, Tensor> sampleByPhase(const Variant &variant, int64_t heads, int64_t length) {
  if (variant.name() != "span_periodic_sorted") return {};
  const Tensor period = torch::full({heads}, 4.0);
  const auto [order, phase] = phaseOrder(period, length, std::min<int64_t>(length, 1024));
  const Tensor place = order.to(torch::kInt32);
  return {{"period", period},
          {"place", place},
          {"key_place", place.clone()},
          {"phase", phase},
          {"key_phase", phase.clone()}};
}

int64_t phaseChunk(const Tensor &q, const Tensor &k, const Tensor &v, const Tensor &span, const Tensor &period,
                   const Tensor &ratio) {
  check(q, k);
  torch::NoGradGuard guard;
  // One batch entry stands for all.
  const Call plain = unsorted(q.slice(0, 0, 1), k.slice(0, 0, 1), v.slice(0, 0, 1), span, period, ratio);
  double least = static_cast<double>(keptOf("span_periodic", plain));
  int64_t best = 0;
  for (int64_t chunk = 256; chunk <= 4096 && chunk <= q.size(2); chunk *= 2) {
    const auto [order, phase] = phaseOrder(period, q.size(2), chunk);
    const double cost =
        sortedTileCost * static_cast<double>(keptOf("span_periodic_sorted", sorted(plain, order, phase)));
    if (cost < least) {
      least = cost;
      best = chunk;
    }
  }
  return best;
}

Tensor attentionByPhase(const Tensor &q, const Tensor &k, const Tensor &v, const Tensor &span, const Tensor &period,
                        const Tensor &ratio, int64_t chunk) {
  check(q, k);
  if (chunk < 0) chunk = phaseChunk(q, k, v, span, period, ratio);
  const Call plain = unsorted(q, k, v, span, period, ratio);
  if (chunk == 0) return attention("span_periodic", plain.names, plain.tensors);
  const auto [order, phase] = phaseOrder(period, q.size(2), chunk);
  const Call call = sorted(plain, order, phase);
  return asBefore(attention("span_periodic_sorted", call.names, call.tensors), order.unsqueeze(0));
}

TORCH_LIBRARY_FRAGMENT(weft, library) {
  library.def("phase_order(Tensor period, int length, int chunk) -> (Tensor, Tensor)", phaseOrder);
  library.def("phase_chunk(Tensor q, Tensor k, Tensor v, Tensor span, Tensor period, Tensor ratio) -> int", phaseChunk);
  library.def(
      "attention_by_phase(Tensor q, Tensor k, Tensor v, Tensor span, Tensor period, Tensor ratio, int chunk=-1) -> "
      "Tensor",
      attentionByPhase);
}

}  // namespace weft::ops
