#include "models/layers.h"

#include <cmath>

#include <torch/csrc/autograd/custom_function.h>

namespace weft {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

constexpr double epsilon = 1e-5, rotationBase = 10000;

/// The turn as a product of complex numbers, and, its inverse being its transpose, its gradient. One long loop a text,
/// however few features a head has.
class Turn : public torch::autograd::Function<Turn> {
 public:
  static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &turns) {
    context->save_for_backward({turns});
    return turn(x, turns);
  }
  static variable_list backward(AutogradContext *context, const variable_list &gradients) {
    return {turn(gradients[0], context->get_saved_variables()[0].conj()), Tensor()};
  }

 private:
  static Tensor turn(const Tensor &x, const Tensor &turns) {
    const Tensor pairs = x.to(torch::kFloat).contiguous().view({x.size(0), -1, 2});
    return torch::view_as_real(torch::view_as_complex(pairs) * turns).view(x.sizes()).to(x.scalar_type());
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
  if (network == "relu2") return torch::relu(x).square();
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

Tensor Rotation::apply(const Tensor &queriesAndKeys) const {
  return turns.defined() ? Turn::apply(queriesAndKeys, turns.reshape({-1})) : queriesAndKeys;
}

}  // namespace weft
