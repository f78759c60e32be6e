#include "ops/kernel_set.h"

#include "runtime/environment.h"

namespace weft::ops {
namespace {

size_t numberOf(const CallForm &form) {
  size_t number = static_cast<size_t>(form.purpose);
  number = backwardForms * number + static_cast<size_t>(form.backward);
  for (const bool flag : {form.lastTileOnly, form.paged, form.selectionGiven, form.seedGiven, form.dLseGiven})
    number = 2 * number + flag;
  return number;
}

}  // namespace

KernelSet::KernelSet(std::shared_ptr<const Variant> variant, ElementType type, std::map<std::string, int64_t> headDims,
                     Device device, const Schedule &schedule)
    : variant(std::move(variant)), type(type), headDims(std::move(headDims)), device(device), schedule(schedule) {}

const Call &KernelSet::call(const CallForm &form) {
  std::atomic<const Call *> &slot = calls.at(numberOf(form));
  if (const Call *known = slot.load(std::memory_order_acquire)) return *known;
  std::lock_guard lock(mutex);
  if (const Call *known = slot.load(std::memory_order_acquire)) return *known;
  CompileRequest request;
  request.variant = variant;
  request.dims = headDims;
  request.type = type;
  request.schedule = schedule;
  if (device.kind == Device::Kind::Cpu) request.target = environment::cpu();
  try {
    made.push_back(std::make_unique<Call>(planCall(*variant, type, schedule, form), request, device));
  } catch (const std::exception &error) {
    TORCH_CHECK(false, "weft: variant '", variant->name(), "': ", error.what());
  }
  slot.store(made.back().get(), std::memory_order_release);
  return *made.back();
}

}  // namespace weft::ops
