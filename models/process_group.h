// Operations on the tensors of several processes at once: torch's c10d behind an interface without its headers. All
// processes call the same operations in the same order; each waits for the others.
#pragma once

#include <chrono>
#include <memory>
#include <stdexcept>
#include <vector>

#include <torch/types.h>

#include "models/launch.h"

namespace weft {

/// Another process has ended, or does not answer any more.
struct LostProcess : std::runtime_error {
  using runtime_error::runtime_error;
};

/// What an operation waits for others at most, where one in a step takes far less.
inline constexpr std::chrono::minutes usualPatience{30};

/// An operation that goes on while this process does other things.
class Pending {
 public:
  virtual ~Pending() = default;
  /// Until it is done. Throws LostProcess.
  virtual void wait() = 0;
};

class ProcessGroup {
 public:
  virtual ~ProcessGroup() = default;
  /// In place, on CPU or on the device of the group. Throws LostProcess, as the others do.
  virtual void sum(torch::Tensor tensor, std::chrono::minutes patience) = 0;
  virtual void maximum(torch::Tensor tensor, std::chrono::minutes patience) = 0;
  /// Those of rank 0 for all, in place.
  virtual void broadcast(const std::vector<torch::Tensor> &tensors) = 0;
  /// The backward pass of `loss`. Gradients of `parameters`, those that lie there already included, become their means
  /// over the processes, a bucket at a time, while the pass goes on. The parameters and the graph behind `loss` are the
  /// same in each call.
  virtual void backward(const torch::Tensor &loss, const std::vector<torch::Tensor> &parameters) = 0;
  /// The gradients of `parameters`, of those that have one, become their means over the processes.
  virtual void average(const std::vector<torch::Tensor> &parameters) = 0;
  /// Bytes for each process of the group, and from each, one behind the other: uint8 [sum of the counts]. Both tensors
  /// stay as they are until it is done.
  virtual std::unique_ptr<Pending> exchange(const torch::Tensor &sent, const std::vector<int64_t> &counts,
                                            const torch::Tensor &received,
                                            const std::vector<int64_t> &receivedCounts) = 0;
  /// A group of `size` of these processes, of which this one is number `rank`; groups of one size have numbers. All
  /// processes call it.
  virtual std::unique_ptr<ProcessGroup> part(int64_t number, int64_t rank, int64_t size) = 0;
};

/// Waits until all processes of `launch` are there. Tensors lie on CPU and on `device`. Throws std::runtime_error: one
/// did not come, a signal came, or this torch has no c10d.
std::unique_ptr<ProcessGroup> joinGroup(const Launch &launch, torch::Device device);

}  // namespace weft
