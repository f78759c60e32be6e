// The schedules worth considering for a call.
#pragma once

#include <vector>

#include "ops/binding.h"

namespace weft::autotune {

/// Every legal schedule of the call's device and direction that can differ in speed from the others; the first is the
/// call's own, the default. A CPU: tiles x register blocks x order x backward form. A GPU: tiles x stages x order x
/// backward form.
std::vector<Schedule> searchSpace(const ops::Binding &call, bool backward);

}  // namespace weft::autotune
