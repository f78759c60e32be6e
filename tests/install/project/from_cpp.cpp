// Weft from C++ with LibTorch: the operator, with gradients, beside the same mathematics in torch's operations.
#include <cmath>
#include <cstdio>
#include <cstring>

#include <torch/torch.h>

#include <weft/ops/attention.h>
#include <weft/ops/decode.h>

using torch::Tensor;

/// Adaptive span (Sukhbaatar et al. 2019), by its formula: weights fall to 0 within 32 positions behind a head's span.
static Tensor byFormula(const Tensor &q, const Tensor &k, const Tensor &v, const Tensor &span) {
  const int64_t groups = q.size(1) / k.size(1);
  const Tensor place = torch::arange(q.size(2)), distance = place.unsqueeze(1) - place;
  const Tensor weight = ((32 + span.view({-1, 1, 1}) - distance) / 32).clamp(0, 1) * (distance >= 0);
  const Tensor keys = k.repeat_interleave(groups, 1), values = v.repeat_interleave(groups, 1);
  const Tensor p = weight * (q.matmul(keys.transpose(2, 3)) / std::sqrt(static_cast<double>(q.size(3)))).exp();
  return (p / p.sum(-1, true)).matmul(values);
}

int main() {
  torch::manual_seed(0);
  auto rows = [](int64_t heads) { return torch::randn({1, heads, 200, 32}, torch::requires_grad()); };
  Tensor q = rows(4), k = rows(2), v = rows(2), span = torch::full({4}, 50.0, torch::requires_grad());
  const Tensor o = weft::ops::attention("adaptive_span", {"q", "k", "v", "span"}, {q, k, v, span});
  const Tensor want = byFormula(q, k, v, span), cotangent = torch::randn_like(o);
  double worst = (o - want).abs().max().item<double>();
  const auto own = torch::autograd::grad({o}, {q, k, v, span}, {cotangent});
  const auto theirs = torch::autograd::grad({want}, {q, k, v, span}, {cotangent});
  for (size_t at = 0; at < own.size(); ++at)
    worst = std::fmax(worst, (own[at] - theirs[at]).abs().max().item<double>());
  std::printf("o %s; largest error of o and of four gradients: %.1e\n", c10::str(o.sizes()).c_str(), worst);

  const auto kept = weft::ops::keptTiles("adaptive_span", {"q", "k", "v", "span"}, {q, k, v, span});
  std::printf("kept tiles of head 0: %lld of %lld\n", static_cast<long long>(kept.kept[0]),
              static_cast<long long>(kept.total));

  torch::NoGradGuard guard;
  const Tensor last = weft::ops::decode("causal", {"q", "k", "v"}, {q.slice(2, 199), k, v});
  const Tensor all =
      torch::scaled_dot_product_attention(q.slice(2, 199), k.repeat_interleave(2, 1), v.repeat_interleave(2, 1));
  worst = std::fmax(worst, (last - all).abs().max().item<double>());
  try {
    weft::ops::attention("causal", {"q", "k", "v"}, {q, k, v.slice(2, 1)});
    return 2;
  } catch (const c10::Error &error) {
    std::printf("a mistake: %s\n", error.what_without_backtrace());
    if (!std::strstr(error.what_without_backtrace(), "expected")) return 3;
  }
  return worst < 1e-4 && kept.kept[0] < kept.total ? 0 : 1;
}
