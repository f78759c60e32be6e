// This machine as a device (see device_backend.h).
#pragma once

#include "runtime/device_backend.h"

namespace weft::cpu {

const DeviceBackend &backend();

/// Whether kernels are for a CPU of another architecture (WEFT_CPU), and an emulator runs them.
bool isEmulated();

}  // namespace weft::cpu
