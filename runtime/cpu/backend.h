// This machine as a device (see device_backend.h).
#pragma once

#include "runtime/device_backend.h"

namespace weft::cpu {

const DeviceBackend &backend();

}  // namespace weft::cpu
