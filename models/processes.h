// The processes that train or evaluate one model together, each with its part of every batch; torchrun starts them.
// One alone asks nobody and waits for nobody.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <torch/types.h>

#include "models/data.h"
#include "models/launch.h"
#include "models/process_group.h"
#include "models/sequence_share.h"

namespace weft {

/// What a backward pass leaves in the gradients: this process's own sums, or means over the processes, made while the
/// pass goes on or, where the graph behind the loss does not show all parameters, afterwards.
enum class Gradients { Own, Means, MeansAfterwards };

class Processes {
 public:
  /// One alone.
  Processes() = default;
  /// Those of `launch`: waits until all are there. Throws as joinGroup does.
  Processes(const Launch &launch, torch::Device device);

  int64_t rank() const { return launch.rank; }
  int64_t size() const { return launch.size; }
  bool alone() const { return launch.size == 1; }
  /// Rank 0: it alone prints and writes.
  bool first() const { return launch.rank == 0; }
  /// Of those on this machine the first one.
  bool firstHere() const { return launch.localRank == 0; }
  /// How many are on this machine.
  int64_t here() const { return launch.localSize; }
  /// True where torchrun started all of them anew after one had failed.
  bool restarted() const { return launch.restarts > 0; }

  /// The rows of this process of a batch whose texts `sharing` processes share each. Throws std::runtime_error where
  /// the processes, or groups of so many, do not divide it.
  Rows part(int64_t batch, int64_t sharing = 1) const;
  /// A seed of this process's own, of one that all have: that itself where rank is 0.
  uint64_t seed(uint64_t common) const;

  // All processes call each of these, in the same order.

  /// This process among the `count` that share sequences: those of ranks next to each other.
  c10::intrusive_ptr<SequenceShare> share(int64_t count);

  /// The bytes that `make` gives in the first process, for all.
  std::string fromFirst(const std::function<std::string()> &make);
  /// Puts those of the first process into the tensors of the others.
  void copyFromFirst(const std::vector<torch::Tensor> &tensors);
  /// Throws std::runtime_error where `text` is not what the first process has; `what` names it.
  void demandSame(const std::string &what, std::string_view text);
  /// The same for the bytes of a split, uint8 [bytes], which each machine has a copy of.
  void demandSameText(const torch::Tensor &bytes);
  /// Each added up over the processes. All hear of a signal that any of them had: see interruptCode.
  std::vector<double> sum(std::vector<double> values);
  double mean(double value) { return sum({value})[0] / static_cast<double>(size()); }
  /// The greatest of the codes, once all have come here: within a day, for one may be at long work.
  int wait(int code = 0);
  /// The backward pass.
  void backward(const torch::Tensor &loss, const std::vector<torch::Tensor> &parameters, Gradients gradients);

  /// What all know of signals since they last summed up: the same in each, so that all stop at the same step. Of one
  /// alone what weft::interruptCode() says.
  int interruptCode() const;
  bool interrupted() const { return interruptCode() != 0; }
  /// Asks the others, where this is no single process.
  bool askInterrupted();

 private:
  Launch launch;
  std::shared_ptr<ProcessGroup> group;  ///< null: alone
  int knownCode = 0;
};

}  // namespace weft
