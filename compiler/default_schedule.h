// Schedules that fit the device at hand.
#pragma once

#include "compiler/compiler.h"

namespace weft {

/// Shared memory of a block that every GPU from compute capability 8.0 on has.
constexpr int64_t leastSharedBytes = 99 * 1024;

/// What runs well without tuning. `target` is the architecture of the device itself ("sm_120"); a GPU's kernels of
/// `type` fit a block of `sharedBytes`.
Schedule defaultSchedule(const Variant &variant, const std::string &target, const std::map<std::string, int64_t> &dims,
                         bool backward, ElementType type, int64_t sharedBytes);

/// True where all kernels of one direction, in every form of it, fit a GPU's block of `sharedBytes`. `target`: what
/// code is generated for.
bool fitsShared(const Variant &variant, const std::string &target, const std::map<std::string, int64_t> &dims,
                ElementType type, const Schedule &schedule, bool backward, int64_t sharedBytes);

}  // namespace weft
