// Weft from C++ with LibTorch: the operator, with gradients.
#include <cstdio>

#include <torch/torch.h>

#include <weft/ops/attention.h>
#include <weft/ops/decode.h>

int main() {
  torch::manual_seed(0);
  auto rows = [](int64_t heads) { return torch::randn({1, heads, 200, 32}, torch::requires_grad()); };
  torch::Tensor q = rows(4), k = rows(2), v = rows(2), span = torch::full({4}, 50.0, torch::requires_grad());
  torch::Tensor o = weft::ops::attention("adaptive_span", {"q", "k", "v", "span"}, {q, k, v, span});
  o.square().sum().backward();
  std::printf("o %s, gradient of span: %.4f\n", c10::str(o.sizes()).c_str(), span.grad().norm().item<double>());
  const auto kept = weft::ops::keptTiles("adaptive_span", {"q", "k", "v", "span"}, {q, k, v, span});
  std::printf("kept tiles of head 0: %lld of %lld\n", static_cast<long long>(kept.kept[0]),
              static_cast<long long>(kept.total));
  torch::NoGradGuard guard;
  const torch::Tensor last = weft::ops::decode("causal", {"q", "k", "v"}, {q.slice(2, 199), k, v});
  const torch::Tensor want = weft::ops::attention("causal", {"q", "k", "v"}, {q, k, v}).slice(2, 199);
  return span.grad().norm().item<double>() > 0 && (last - want).abs().max().item<double>() < 1e-5 ? 0 : 1;
}
