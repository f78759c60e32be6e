// Which schedule a call runs in: a tuned one, else the device's default.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <torch/types.h>

#include "ops/arguments.h"
#include "runtime/schedule_cache.h"

namespace weft::ops {

/// Sizes a schedule depends on, read off the tensors of a call.
struct CallShape {
  std::map<std::string, int64_t> headDims;
  int64_t B = 1, H = 1, T = 1, S = 1;
  at::ScalarType type = at::kFloat;
  int64_t heads = 1, rows = 1;  ///< B H heads of T queries; where the rows of tiles are heads: B T groups of them
};
CallShape shapeOf(const Arguments &arguments);
/// How many rows query tiles divide: those of a head, or the heads that are rows together.
int64_t rowCount(TileRows rows, int64_t H, int64_t G, int64_t T);
/// Throws c10::Error for tensors that the variant does not take.
CallShape shapeOf(const std::shared_ptr<const Variant> &variant, const std::vector<std::string> &names,
                  at::TensorList tensors);

/// The tuned schedule of this compiler's code, or the default.
Schedule chosenSchedule(const Variant &variant, const CallShape &shape, const Device &device, bool backward);

/// What runs well on a device without tuning, and fits it. Found once for each variant, type and head dims.
Schedule untunedSchedule(const Variant &variant, ElementType type, const std::map<std::string, int64_t> &headDims,
                         const Device &device, bool backward);

/// The same for a call: few rows take lower tiles.
Schedule untunedSchedule(const Variant &variant, const CallShape &shape, const Device &device, bool backward);

/// Under what a call's schedule is tuned.
TuningKey tuningKey(const Variant &variant, const CallShape &shape, const Device &device, bool backward);
/// Calls from now on look schedules up anew.
void forgetSchedules();
/// How often forgetSchedules was called.
int scheduleGeneration();

}  // namespace weft::ops
