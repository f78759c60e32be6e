// The kernels of one variant for one element type, head dims, device and schedule.
#pragma once

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <torch/types.h>

#include "runtime/call.h"

namespace weft::ops {

class KernelSet {
 public:
  KernelSet(std::shared_ptr<const Variant> variant, ElementType type, std::map<std::string, int64_t> headDims,
            Device device, const Schedule &schedule);

  /// A call of this form, its kernels compiled when it is first asked for. Thread-safe. Throws c10::Error with the
  /// compiler's words.
  const Call &call(const CallForm &form);

  const std::shared_ptr<const Variant> variant;
  const ElementType type;
  const std::map<std::string, int64_t> headDims;
  const Device device;
  const Schedule schedule;

 private:
  std::mutex mutex;  ///< of those who make one
  std::vector<std::unique_ptr<Call>> made;
  std::array<std::atomic<const Call *>, 128 * backwardForms> calls{};  ///< by form
};

}  // namespace weft::ops
