// What a kind of device does for the runtime: a folder that defines a backend, and a line in devices.cpp.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/device.h"
#include "runtime/kernel_cache.h"
#include "runtime/roof.h"
#include "runtime/tensor_map.h"

namespace weft {

/// `index` is Device's. Immutable; thread-safe. All but names throw std::runtime_error where the machine has no such
/// device.
class DeviceBackend {
 public:
  virtual ~DeviceBackend() = default;

  /// The forms of its names, for those who wrote another one.
  virtual std::vector<std::string> forms() const = 0;
  /// The index that a name stands for; none where it is no name of this kind. Throws std::runtime_error that says what
  /// is known where it nearly is one.
  virtual std::optional<int> parse(const std::string &name) const = 0;
  virtual std::string name(int index) const = 0;

  /// See capabilityOf, from which target and limits follow.
  virtual int capability(int index) const = 0;
  /// What tuning results are kept under.
  virtual std::string identity(int index) const = 0;
  /// Why the device does not run code for `target`; empty where it does.
  virtual std::string refusal(const std::string &target) const = 0;
  /// `code`: that of `image`, which has none itself.
  virtual std::shared_ptr<const LoadedKernel> load(KernelImage image, const std::string &code, int index) const = 0;
  /// See tensor_map.h; of a map that has no problem.
  virtual EncodedTensorMap encode(const TensorMap &map, int index) const = 0;

  /// See roof.h. `again`: measured anew, where it is measured.
  virtual std::optional<Roof> arithmeticRoof(int index, ElementType type, int threads, bool again) const = 0;
  virtual std::optional<Roof> memoryRoof(int index, int threads) const = 0;
};

const DeviceBackend &backendOf(const Device &device);

/// The compute capabilities that are, from the least: 80 for 8.0.
std::vector<int> knownCapabilities();

/// 64-bit words of a kernel's arguments: its maps and slots.
inline size_t wordsOf(const KernelImage &image) {
  return image.maps.size() * TensorMapSlot::words + image.slots.size();
}

/// Of a launch of `programs` programs on a GPU of `units` multiprocessors. Throws std::runtime_error where a GPU cannot
/// count as many.
int64_t blocksOf(const KernelImage &image, int64_t programs, int units);

}  // namespace weft
