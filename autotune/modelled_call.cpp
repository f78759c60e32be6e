#include "autotune/modelled_call.h"

#include "autotune/model.h"
#include "ops/variant_library.h"

namespace weft::autotune {
namespace {

std::shared_ptr<const Variant> variantOf(const Problem &problem) {
  return ops::variantOfCall(problem.variant, problem.names, problem.tensors);
}
ops::CallShape shapeOf(const Problem &problem) {
  return ops::shapeOf(variantOf(problem), problem.names, problem.tensors);
}
Device standIn(const timeline::Chip &chip) { return parseDevice("ptx-emulator:" + timeline::architecture(chip)); }

Schedule untunedOf(const Problem &problem, const timeline::Chip &chip) {
  const ops::CallShape shape = shapeOf(problem);
  return ops::untunedSchedule(*variantOf(problem), shape, standIn(chip), problem.backward);
}

/// Of the CPU, that cuts what is kept as the GPU would.
Schedule hostSchedule(const Schedule &schedule) {
  Schedule host;
  host.tileQ = schedule.tileQ;
  host.tileK = schedule.tileK;
  return host;
}

}  // namespace

ModelledCall::ModelledCall(const Problem &problem, const timeline::Chip &chip)
    : ModelledCall(problem, chip, variantOf(problem), shapeOf(problem), standIn(chip), untunedOf(problem, chip)) {}

ModelledCall::ModelledCall(const Problem &problem, const timeline::Chip &chip,
                           const std::shared_ptr<const Variant> &variant, const ops::CallShape &shape,
                           const Device &device, const Schedule &schedule)
    : backward(problem.backward),
      set(variant, ops::elementType(shape.type), shape.headDims, device, schedule),
      hostSet(variant, ops::elementType(shape.type), shape.headDims, Device{}, hostSchedule(schedule)),
      call(set, problem.names, problem.tensors),
      host(hostSet, problem.names, problem.tensors),
      pattern(host),
      kernels(call, pattern, problem.backward, chip) {}

std::vector<TuningPoint> ModelledCall::rank(const std::function<void(size_t, size_t)> &progress, size_t &known) const {
  std::vector<TuningPoint> points = countedSpace(call, pattern, backward, 0);
  known = predictByCode(kernels, points, refinedCandidates, progress, {});
  return points;
}

}  // namespace weft::autotune
