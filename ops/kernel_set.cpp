#include "ops/kernel_set.h"

#include "ops/arguments.h"
#include "ops/devices.h"
#include "ops/schedules.h"
#include "runtime/environment.h"

namespace weft::ops {
namespace {

std::atomic<Tuner> tuner{nullptr};

size_t numberOf(const CallForm &form) {
  size_t number = static_cast<size_t>(form.purpose);
  for (const bool flag :
       {form.fused, form.lastTileOnly, form.paged, form.selectionGiven, form.seedGiven, form.dLseGiven})
    number = 2 * number + flag;
  return number;
}

}  // namespace

void setTuner(Tuner own) { tuner = own; }

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

KernelSet &kernelSet(const std::string &variantText, const std::vector<std::string> &names, at::TensorList tensors,
                     bool backward) {
  const std::shared_ptr<const Variant> variant = variantOrThrow(variantText);
  const CallShape shape = shapeOf(*variant, names, tensors);
  const Device device = deviceOf(tensors);
  const ElementType element = elementType(shape.type);
  // Schedules are tuned for sizes up to powers of two.
  using Key = std::tuple<const Variant *, ElementType, std::map<std::string, int64_t>, int, int, int64_t, int64_t,
                         int64_t, int, bool, int>;
  Key key{variant.get(),       element,
          shape.headDims,      static_cast<int>(device.kind),
          device.index,        bucketOf(shape.B * shape.H),
          bucketOf(shape.T),   bucketOf(shape.S),
          threadCount(),       backward,
          scheduleGeneration()};
  static std::mutex mutex;
  static std::map<Key, std::unique_ptr<KernelSet>> sets;
  {
    std::lock_guard lock(mutex);
    if (auto found = sets.find(key); found != sets.end()) return *found->second;
  }
  if (Tuner own = tuner; own && environment::tune() && device.kind != Device::Kind::PtxEmulator) {
    // Its own calls come with schedules of their own, not through here.
    own(variantText, names, tensors, backward);
    std::get<10>(key) = scheduleGeneration();
  }
  const Schedule schedule = chosenSchedule(*variant, shape, device, backward);
  auto made = std::make_unique<KernelSet>(variant, element, shape.headDims, device, schedule);
  std::lock_guard lock(mutex);
  return *sets.try_emplace(key, std::move(made)).first->second;
}

}  // namespace weft::ops
