#include "ops/schedules.h"

#include <atomic>
#include <mutex>

#include "compiler/default_schedule.h"
#include "ops/arguments.h"
#include "ops/devices.h"
#include "runtime/sha256.h"

namespace weft::ops {

CallShape shapeOf(const Variant &variant, const std::vector<std::string> &names, at::TensorList tensors) {
  TORCH_CHECK(names.size() == tensors.size(), "weft: expected as many names as tensors, got ", names.size(), " and ",
              tensors.size());
  TORCH_CHECK(find(names, "v") >= 0, "weft: expected a tensor named 'v' among the names");
  CallShape shape;
  for (const InputInfo &input : variant.inputs()) {
    const int at = input.isRow ? find(names, input.name) : -1;
    if (at < 0 || tensors[at].dim() != 4) continue;  // the binding says what is wrong
    const at::Tensor &tensor = tensors[at];
    shape.headDims[input.dims.back()] = tensor.size(3);
    shape.B = tensor.size(0);
    if (input.dims[1] == "H") shape.H = tensor.size(1);
    if (input.dims[2] == "T") shape.T = tensor.size(2);
    if (input.dims[2] == "S") shape.S = tensor.size(2);
    if (input.name == "v") shape.type = tensor.scalar_type();
  }
  return shape;
}

namespace {

TuningKey keyOf(const Variant &variant, const CallShape &shape, const Device &device, bool backward) {
  TuningKey key;
  key.variant = variant.name();
  key.variantHash = sha256(variant.source());
  key.type = elementType(shape.type);
  key.headDims = shape.headDims;
  key.backward = backward;
  key.heads = bucketOf(shape.B * shape.H);
  key.queries = bucketOf(shape.T);
  key.keys = bucketOf(shape.S);
  key.threads = device.kind == Device::Kind::Cpu ? threadCount() : 0;
  return key;
}

std::atomic<int> forgotten{0};

}  // namespace

Schedule chosenSchedule(const Variant &variant, const CallShape &shape, const Device &device, bool backward) {
  // Read once: tuning in another process shows in the next one.
  static std::mutex mutex;
  static std::map<std::string, std::pair<int, std::vector<TuningEntry>>> known;
  const TuningKey key = keyOf(variant, shape, device, backward);
  std::lock_guard lock(mutex);
  auto &[generation, entries] = known.try_emplace(name(device), -1, std::vector<TuningEntry>()).first->second;
  if (generation != forgotten) {
    entries = ScheduleCache(device).entries();
    generation = forgotten;
  }
  for (const TuningEntry &entry : entries)
    if (entry.key == key && entry.build == buildIdentity() && entry.seconds > 0) return entry.schedule;
  return untunedSchedule(variant, elementType(shape.type), shape.headDims, device, backward);
}

Schedule untunedSchedule(const Variant &variant, ElementType type, const std::map<std::string, int64_t> &headDims,
                         const Device &device, bool backward) {
  if (device.kind == Device::Kind::Cpu) return defaultSchedule(variant, "host", headDims, backward);
  using Key = std::tuple<std::string, ElementType, std::map<std::string, int64_t>, std::string, bool>;
  static std::mutex mutex;
  static std::map<Key, Schedule> known;
  std::lock_guard lock(mutex);
  auto [slot, added] = known.try_emplace(Key{variant.source(), type, headDims, architectureOf(device), backward});
  if (added)
    slot->second = defaultSchedule(variant, architectureOf(device), headDims, backward, type,
                                   limitsOf(device).sharedBytesPerBlock);
  return slot->second;
}

TuningKey tuningKey(const Variant &variant, const std::vector<std::string> &names, at::TensorList tensors,
                    bool backward) {
  return keyOf(variant, shapeOf(variant, names, tensors), deviceOf(tensors), backward);
}
void forgetSchedules() { ++forgotten; }
int scheduleGeneration() { return forgotten; }

}  // namespace weft::ops
