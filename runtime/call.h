// Executes a call plan on a device. Allocates nothing that kernels touch, and knows no torch.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "compiler/call_plan.h"
#include "runtime/kernel_cache.h"

namespace weft {

/// Where a buffer of a plan lies. A buffer without elements still has room for one of each dim, zeros.
struct Memory {
  void *data = nullptr;
  const int64_t *strides = nullptr;  ///< in elements; null: contiguous
};

/// `dims`: of the plan's dims, those that come with the call; gives all of them. Throws std::runtime_error where one is
/// larger than largestExtent.
std::vector<int64_t> dimsOf(const CallPlan &plan, std::vector<int64_t> dims);
int64_t valueOf(const Extent &extent, const int64_t *dims);
/// Throws std::runtime_error where a buffer whose elements are counted in 32 bits would have more.
std::vector<int64_t> shapeOf(const CallPlan::Buffer &buffer, const int64_t *dims);
/// Bytes that a contiguous buffer needs: room for at least one element of each dim.
int64_t roomOf(const CallPlan::Buffer &buffer, const int64_t *dims);

/// A plan with its kernels loaded and every name resolved. Immutable: shared between threads.
class Call {
 public:
  /// Compiles what is not in the cache; `request` says of what and for what, but for its kernel. Throws
  /// std::runtime_error with the compiler's words.
  Call(CallPlan plan, const CompileRequest &request, const Device &device);

  const CallPlan plan;
  const Device device;

  /// False where no kernel reads or writes the buffer: it needs no memory.
  bool uses(int buffer) const { return used[buffer]; }

  /// Runs the plan's steps. Where rows do not lie as a step's kernel takes them, another one is compiled, the first
  /// time. `dims`: all of the plan's; `memory`: of each of its buffers, of those that are not used
  /// none. As LoadedKernel::run, whose `context` it completes.
  void run(const int64_t *dims, const Memory *memory, const LaunchContext &context) const;

 private:
  struct Slot {
    ArgumentSlot::Kind kind;
    int position;  ///< of the dim or buffer
    int axis;      ///< Stride
  };
  struct Kernel {
    std::shared_ptr<const LoadedKernel> code;
    std::vector<Slot> slots;
    std::vector<int> mapped;  ///< the buffer of each tensor map
  };
  struct Step {
    Kernel kernel;
    std::once_flag anyRowsOnce;
    Kernel anyRows;  ///< see CompileRequest::anyRows
  };
  Kernel load(const CallPlan::Step &step, bool anyRows) const;
  Kernel loadAnyRows(const CallPlan::Step &step) const;
  Slot resolve(const ArgumentSlot &slot, const CallPlan::Step &step) const;
  /// Puts the kernel's tensor maps before the other arguments. False where one cannot be made.
  bool addMaps(const Kernel &kernel, const int64_t *dims, const Memory *memory, std::vector<int64_t> &arguments) const;

  const CompileRequest request;
  mutable std::vector<Step> steps;
  std::vector<char> used;  ///< of each buffer
  const bool tellsMemory;  ///< an emulator of a GPU or CPU wants to know what a launch may touch
};

}  // namespace weft
