// NVIDIA GPUs, through their driver as a device (see device_backend.h).
#pragma once

#include "runtime/device_backend.h"

namespace weft::cuda {

const DeviceBackend &backend();

}  // namespace weft::cuda
