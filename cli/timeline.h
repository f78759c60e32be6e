// What the timing model says at the terminal; every line of a time is marked as predicted.
#pragma once

#include <optional>
#include <string>

#include "compiler/compiler.h"
#include "ops/sample_inputs.h"

namespace weft::cli {

/// The GPU that `weft compile --target` means without --device-model: "h200" of "sm_90". Throws std::runtime_error.
std::string deviceModelOf(const std::string &target);

/// `weft compile --emit timeline`: a page about one kernel of a call on random tensors. No schedule: the one that the
/// GPU's calls have without tuning. Gives the exit code.
int printTimeline(const std::string &variant, const std::string &kernel, const std::string &type,
                  const std::string &deviceModel, const ops::SampleShape &shape, int64_t span,
                  const std::optional<Schedule> &schedule);

/// `weft tune --device model:NAME`: schedules of one call, the fastest first. Nothing is kept.
void printRanking(const std::string &variant, bool backward, const std::string &type, const std::string &deviceModel,
                  const ops::SampleShape &shape, int64_t span);

}  // namespace weft::cli
