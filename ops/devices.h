// Where calls run: devices and threads as torch and the environment have them.
#pragma once

#include <torch/types.h>

#include "runtime/device.h"

namespace weft::ops {

/// What CPU tensors are computed on: the CPU or the emulator.
Device hostDevice();
/// Where the call runs: with its tensors, or on the emulator where WEFT_DEVICE says so.
Device deviceOf(at::TensorList tensors);
/// CPU threads a call may use: torch's setting, or fewer where WEFT_THREADS says so.
int threadCount();

/// Of a launch now, on torch's threads or its current stream.
LaunchContext launchContext(const Device &device, EmulatorReport &report);
/// Adds to what emulatorReport (see attention.h) gives.
void addReport(const EmulatorReport &report);

/// The tensor itself or, where its rows lie so that the device cannot read them, a copy.
at::Tensor readable(const at::Tensor &tensor, const Device &device);
/// As at::empty. A large one on a CPU asks for huge pages: faults of small ones would take as long as the kernels that
/// fill it.
at::Tensor emptyLarge(at::IntArrayRef sizes, const at::TensorOptions &options);

}  // namespace weft::ops
