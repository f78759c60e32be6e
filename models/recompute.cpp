#include "models/recompute.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/utils.h>

#include "models/precision.h"

namespace weft {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using BlockFunction = std::function<Tensor(const Tensor &)>;

at::Generator generatorOf(torch::Device device) {
  return device.is_cpu() ? at::detail::getDefaultCPUGenerator() : at::globalContext().defaultGenerator(device);
}

Tensor stateOf(at::Generator generator) {
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

void setState(at::Generator generator, const Tensor &state) {
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state);
}

/// What the second run of a block needs of the first.
struct Kept : torch::CustomClassHolder {
  BlockFunction block;
  std::string precision;
  Tensor randomState;
};

class Recompute : public torch::autograd::Function<Recompute> {
 public:
  static Tensor forward(AutogradContext *context, const Tensor &x, const BlockFunction &block) {
    auto kept = c10::make_intrusive<Kept>();
    kept->block = block;
    kept->precision = Autocast::current(x.device());
    kept->randomState = stateOf(generatorOf(x.device()));
    context->saved_data["kept"] = c10::IValue::make_capsule(kept);
    context->save_for_backward({x});
    return block(x);
  }

  static variable_list backward(AutogradContext *context, const variable_list &gradients) {
    const auto kept = c10::static_intrusive_pointer_cast<Kept>(context->saved_data["kept"].toCapsule());
    const Tensor x = context->get_saved_variables()[0].detach().requires_grad_();
    at::Generator generator = generatorOf(x.device());
    const Tensor stateNow = stateOf(generator);
    setState(generator, kept->randomState);
    Tensor y;
    {
      const torch::AutoGradMode recording(true);
      const Autocast autocast(kept->precision, x.device());
      y = kept->block(x);
    }
    setState(generator, stateNow);
    torch::autograd::backward({y}, {gradients[0]});
    return {x.grad(), Tensor()};
  }
};

}  // namespace

Tensor recomputed(const BlockFunction &block, const Tensor &x) { return Recompute::apply(x, block); }

}  // namespace weft
