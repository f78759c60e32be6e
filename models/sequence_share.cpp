#include "models/sequence_share.h"

#include <algorithm>
#include <stdexcept>

#include <torch/csrc/autograd/custom_function.h>

#include "models/shared_attention.h"
#include "ops/arguments.h"
#include "ops/variant_library.h"

namespace weft {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

using Share = c10::intrusive_ptr<SequenceShare>;

class AttendFunction : public torch::autograd::Function<AttendFunction> {
 public:
  static Tensor forward(AutogradContext *context, const Share &share, const std::string &variant,
                        const std::vector<std::string> &names, torch::TensorList tensors) {
    SharedAttention call(*share, variant, names, tensors.vec());
    call.prepare();
    const auto [o, rows] = call.forward();
    variable_list saved = tensors.vec();
    for (const Tensor &own : call.prepared()) saved.push_back(own);
    saved.insert(saved.end(), {o, rows});
    context->save_for_backward(saved);
    context->saved_data["share"] = c10::IValue::make_capsule(share);
    context->saved_data["variant"] = variant;
    context->saved_data["names"] = names;
    return o;
  }

  static variable_list backward(AutogradContext *context, const variable_list &gradients) {
    variable_list saved = context->get_saved_variables();
    const size_t count = saved.size() - 4;
    const auto share = c10::static_intrusive_pointer_cast<SequenceShare>(context->saved_data["share"].toCapsule());
    std::vector<std::string> names;
    for (const c10::IValue &name : context->saved_data["names"].toListRef()) names.push_back(name.toStringRef());
    SharedAttention call(*share, context->saved_data["variant"].toStringRef(), names,
                         {saved.begin(), saved.begin() + count});
    call.prepare({saved[count], saved[count + 1]});
    variable_list result(3);
    for (const Tensor &own : call.backward(saved[count + 2], saved[count + 3], gradients[0])) result.push_back(own);
    return result;
  }
};

}  // namespace

SequenceShare::SequenceShare(std::unique_ptr<ProcessGroup> group, int64_t rank, int64_t size)
    : rank(rank), size(size), own(std::move(group)) {}

Places SequenceShare::places(int64_t length) const {
  if (length % pieces() != 0)
    throw std::runtime_error("a sequence of " + std::to_string(length) + " tokens cannot be cut into " +
                             std::to_string(pieces()) + " equal pieces for " + std::to_string(size) +
                             " processes; expected a multiple of " + std::to_string(pieces()));
  Places result;
  for (const int64_t piece : piecesOf(rank)) result.push_back({piece * (length / pieces()), length / pieces()});
  return result;
}

Tensor SequenceShare::attend(const std::string &variant, const AttentionInputs &call) {
  std::vector<std::string> names = call.names;
  std::vector<Tensor> tensors = call.tensors;
  // A query's pairs are all computed here, forward and backward: other processes may have other random numbers.
  if (findVariant(variant)->hasDropout() && std::ranges::count(names, "seed") == 0) {
    names.push_back("seed");
    tensors.push_back(ops::drawnSeed(tensors[0].device()));
  }
  return AttendFunction::apply(Share::reclaim_copy(this), variant, names, torch::TensorList(tensors));
}

}  // namespace weft
