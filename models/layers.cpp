#include "models/layers.h"

#include <cmath>

namespace weft {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

constexpr double epsilon = 1e-5, rotationBase = 10000;

/// The turn and, its inverse being its transpose, its gradient: two passes over x, nothing kept but the angles.
class Turn : public torch::autograd::Function<Turn> {
 public:
  static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &cosine, const Tensor &sine) {
    context->save_for_backward({cosine, sine});
    return turn(x, cosine, sine, 1);
  }
  static variable_list backward(AutogradContext *context, const variable_list &gradients) {
    const auto angles = context->get_saved_variables();
    return {turn(gradients[0], angles[0], angles[1], -1), Tensor(), Tensor()};
  }

 private:
  static Tensor turn(const Tensor &x, const Tensor &cosine, const Tensor &sine, double sign) {
    const int64_t half = x.size(-1) / 2;
    const Tensor whole = x.contiguous();
    const Tensor out = torch::empty_like(whole);
    const Tensor first = whole.slice(-1, 0, half), second = whole.slice(-1, half);
    Tensor one = out.slice(-1, 0, half), two = out.slice(-1, half);
    at::mul_out(one, first, cosine);
    one.addcmul_(second, sine, -sign);
    at::mul_out(two, second, cosine);
    two.addcmul_(first, sine, sign);
    return out;
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

Rotation Rotation::ofPositions(int64_t count, int64_t headDim) {
  const int64_t half = headDim / 2;
  const Tensor speed =
      torch::pow(rotationBase, torch::arange(half, torch::kDouble) * (-2.0 / static_cast<double>(headDim)));
  const Tensor angle = torch::outer(torch::arange(count, torch::kDouble), speed).view({count, 1, 1, half});
  return {angle.cos().to(torch::kFloat), angle.sin().to(torch::kFloat)};
}

Rotation Rotation::slice(int64_t first, int64_t count) const {
  if (!cosine.defined()) return {};
  return {cosine.slice(0, first, first + count), sine.slice(0, first, first + count)};
}

Tensor Rotation::apply(const Tensor &x) const {
  return cosine.defined() ? Turn::apply(x, cosine.to(x.scalar_type()), sine.to(x.scalar_type())) : x;
}

}  // namespace weft
