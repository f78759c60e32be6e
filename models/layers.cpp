#include "models/layers.h"

#include <algorithm>
#include <cmath>

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/utils.h>

namespace weft {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

constexpr double epsilon = 1e-5, rotationBase = 10000;

/// `to` [..., T, 2, H, D] becomes queries and keys [..., T, H, D], turned by `turns` [T, H D]: as products of complex
/// numbers in one long loop, however few features a head has.
void turnInto(const Tensor &to, const Tensor &queries, const Tensor &keys, const Tensor &turns) {
  const Tensor exact = torch::empty(to.sizes(), to.options().dtype(torch::kFloat));
  exact.select(-3, 0).copy_(queries);
  exact.select(-3, 1).copy_(keys);
  torch::view_as_complex(exact.flatten(-3).unflatten(-1, {-1, 2})).mul_(turns);
  to.copy_(exact);
}

/// queries and keys [B, T, H, D] -> [B, T, 2, H, D]. A CPU takes as many tokens at once as its cache holds.
Tensor turned(const Tensor &queries, const Tensor &keys, const Tensor &turns) {
  const int64_t batch = queries.size(0), length = queries.size(1), heads = queries.size(2), dim = queries.size(3);
  const Tensor all = torch::empty({batch, length, 2, heads, dim}, queries.options());
  if (!all.is_cpu()) {
    turnInto(all, queries, keys, turns);
    return all;
  }
  const int64_t piece = std::max<int64_t>(1, (1 << 16) / (2 * heads * dim));
  at::parallel_for(0, batch * length, piece, [&](int64_t begin, int64_t end) {
    const torch::NoGradGuard guard;
    for (int64_t token = begin, count = 0; token < end; token += count) {
      const int64_t text = token / length, at = token % length;
      count = std::min({piece, end - token, length - at});
      auto own = [&](const Tensor &x) { return x.select(0, text).narrow(0, at, count); };
      turnInto(own(all), own(queries), own(keys), turns.narrow(0, at, count));
    }
  });
  return all;
}

/// Its inverse being its transpose, the turn is its own gradient, the other way round.
class Turn : public torch::autograd::Function<Turn> {
 public:
  static variable_list forward(AutogradContext *context, const Tensor &x, const Tensor &turns) {
    const at::AutoDispatchBelowADInplaceOrView below;  // two results, of one memory
    context->save_for_backward({turns});
    return turned(x.select(2, 0), x.select(2, 1), turns).unbind(2);
  }
  static variable_list backward(AutogradContext *context, const variable_list &gradients) {
    return {turned(gradients[0], gradients[1], context->get_saved_variables()[0].conj().resolve_conj()), Tensor()};
  }
};

/// The square of ReLU keeps one tensor for its gradient 2 relu(x) g, not two.
class SquaredRelu : public torch::autograd::Function<SquaredRelu> {
 public:
  static Tensor forward(AutogradContext *context, const Tensor &x) {
    const Tensor positive = torch::relu(x);
    context->save_for_backward({positive});
    return positive * positive;
  }
  static variable_list backward(AutogradContext *context, const variable_list &gradients) {
    return {torch::mul(context->get_saved_variables()[0], gradients[0]).mul_(2)};
  }
};

}  // namespace

NormImpl::NormImpl(const std::string &kind, int64_t width) {
  weight = register_parameter("weight", torch::ones({width}));
  if (kind == "layer") bias = register_parameter("bias", torch::zeros({width}));
}

Tensor NormImpl::forward(const Tensor &x) {
  if (bias.defined()) return torch::layer_norm(x, {x.size(-1)}, weight, bias, epsilon);
  return at::rms_norm(x, {x.size(-1)}, weight, epsilon);
}

Tensor activate(const std::string &network, const Tensor &x) {
  if (network == "relu2") return SquaredRelu::apply(x);
  if (network == "gelu") return torch::gelu(x);
  const auto halves = x.chunk(2, -1);
  return torch::silu(halves[0]) * halves[1];
}

Tensor unitRms(const Tensor &x) { return at::rms_norm(x, {x.size(-1)}, {}, epsilon); }

Rotation Rotation::ofPositions(int64_t count, int64_t heads, int64_t headDim) {
  const int64_t half = headDim / 2;
  const Tensor speed =
      torch::pow(rotationBase, torch::arange(half, torch::kDouble) * (-2.0 / static_cast<double>(headDim)));
  const Tensor angle = torch::outer(torch::arange(count, torch::kDouble), speed);
  const Tensor turns = torch::polar(torch::ones_like(angle), angle).to(torch::kComplexFloat);
  return {turns.view({count, 1, half}).expand({count, 2 * heads, half}).reshape({count, 2 * heads * half})};
}

Rotation Rotation::at(const Places &places) const {
  return turns.defined() ? Rotation{weft::at(places, turns)} : Rotation{};
}

std::pair<Tensor, Tensor> Rotation::apply(const Tensor &queriesAndKeys) const {
  const variable_list parts = turns.defined() ? Turn::apply(queriesAndKeys, turns) : queriesAndKeys.unbind(2);
  return {parts[0], parts[1]};
}

}  // namespace weft
