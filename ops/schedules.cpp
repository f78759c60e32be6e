#include "ops/schedules.h"

#include <atomic>
#include <mutex>
#include <numeric>

#include "compiler/origin.h"
#include "ops/arguments.h"
#include "ops/devices.h"
#include "runtime/environment.h"
#include "runtime/schedule.h"
#include "runtime/sha256.h"

namespace weft::ops {

int64_t rowCount(TileRows rows, int64_t H, int64_t G, int64_t T) {
  switch (rows) {
    case TileRows::Queries: return T;
    case TileRows::Heads: return H / std::max<int64_t>(G, 1);
    case TileRows::Head: return 1;
  }
  return T;
}

CallShape shapeOf(const Arguments &arguments) {
  auto size = [&](int dim) { return arguments.sizes[dim].guard_int(__FILE__, __LINE__); };
  CallShape shape{{}, size(0), size(1), size(3), size(4), arguments.type};
  shape.rows = rowCount(arguments.signature->variant->rows(), shape.H, size(2), shape.T);
  shape.heads = shape.B * shape.H * shape.T / std::max<int64_t>(shape.rows, 1);
  for (const int dim : arguments.signature->headDims) shape.headDims[arguments.signature->dims[dim]] = size(dim);
  return shape;
}

CallShape shapeOf(const std::shared_ptr<const Variant> &variant, const std::vector<std::string> &names,
                  at::TensorList tensors) {
  const Signature signature(variant, names, tensors.size());
  return shapeOf(checkArguments(signature, tensors));
}

TuningKey tuningKey(const Variant &variant, const CallShape &shape, const Device &device, bool backward) {
  TuningKey key;
  key.variant = variant.name();
  // A piece of a sequence runs as the whole does.
  key.variantHash = sha256(sourceWithoutOrigin(variant));
  key.type = elementType(shape.type);
  key.headDims = shape.headDims;
  key.backward = backward;
  key.heads = bucketOf(shape.heads);
  key.queries = bucketOf(shape.rows);
  key.keys = bucketOf(shape.S);
  key.threads = device.kind == Device::Kind::Cpu ? threadCount() : 0;
  return key;
}

static std::atomic<int> forgotten{0};

/// A tile is computed whole: few queries or keys take the least one. The order of sums stays.
static constexpr int least = 16;
/// The lowest tile with room for so many rows, in steps of so many.
static int wholeTile(int64_t rows, int step) {
  return static_cast<int>(std::clamp<int64_t>((rows + step - 1) / step * step, step, 256));
}

static Schedule ofFew(const Schedule &schedule, const Variant &variant, const CallShape &shape, const Device &device) {
  if (device.kind != Device::Kind::Cpu) {
    // Tall tiles pay once they give every multiprocessor of a large GPU two blocks.
    constexpr int64_t blocks = 256, tall = 64;
    Schedule lower = schedule;
    if (shape.heads * ((shape.rows + schedule.tileQ - 1) / schedule.tileQ) < blocks)
      lower.tileQ = std::gcd(schedule.tileQ, tall);
    // Few heads are all the rows that there are, of any number of queries.
    if (variant.rows() != TileRows::Queries) lower.tileQ = std::min(lower.tileQ, wholeTile(shape.rows, least));
    if (schedule.keysK && shape.B * shape.H * ((shape.S + schedule.keysK - 1) / schedule.keysK) < blocks)
      lower.keysK = std::gcd(schedule.keysK, tall);
    return lower;
  }
  const bool amx = elementType(shape.type) == ElementType::BF16 && cpuFacts(environment::cpu()).amx;
  Schedule small = schedule;
  if (variant.rows() != TileRows::Queries)
    small.tileQ = std::min(small.tileQ, wholeTile(shape.rows, amx ? 2 * least : least));
  if (amx) return small;
  if (shape.rows <= least) small.tileQ = least;
  if (shape.S <= least && variant.keySets().size() == 1 && variant.keyList().input < 0) small.tileK = least;
  return illegal(small, variant).empty() ? small : schedule;
}

Schedule chosenSchedule(const Variant &variant, const CallShape &shape, const Device &device, bool backward) {
  // Read once: tuning in another process shows in the next one.
  static std::mutex mutex;
  static std::map<std::string, std::pair<int, std::vector<TuningEntry>>> known;
  const TuningKey key = tuningKey(variant, shape, device, backward);
  std::lock_guard lock(mutex);
  auto &[generation, entries] = known.try_emplace(name(device), -1, std::vector<TuningEntry>()).first->second;
  if (generation != forgotten) {
    entries = ScheduleCache(device).entries();
    generation = forgotten;
  }
  for (const TuningEntry &entry : entries)
    if (entry.key == key && entry.build == buildIdentity() && entry.seconds > 0) return entry.schedule;
  return untunedSchedule(variant, shape, device, backward);
}

Schedule untunedSchedule(const Variant &variant, const CallShape &shape, const Device &device, bool backward) {
  return ofFew(untunedSchedule(variant, elementType(shape.type), shape.headDims, device, backward), variant, shape,
               device);
}

Schedule untunedSchedule(const Variant &variant, ElementType type, const std::map<std::string, int64_t> &headDims,
                         const Device &device, bool backward) {
  if (device.kind == Device::Kind::Cpu) return deviceSchedule(variant, type, headDims, device, backward);
  using Key = std::tuple<std::string, ElementType, std::map<std::string, int64_t>, std::string, bool>;
  static std::mutex mutex;
  static std::map<Key, Schedule> known;
  std::lock_guard lock(mutex);
  auto [slot, added] = known.try_emplace(Key{variant.source(), type, headDims, architectureOf(device), backward});
  if (added) slot->second = deviceSchedule(variant, type, headDims, device, backward);
  return slot->second;
}

void forgetSchedules() { ++forgotten; }
int scheduleGeneration() { return forgotten; }

}  // namespace weft::ops
