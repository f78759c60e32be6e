// The PTX emulator as a device (see device_backend.h).
#pragma once

#include "runtime/device_backend.h"

namespace weft::ptx {

const DeviceBackend &backend();

}  // namespace weft::ptx
