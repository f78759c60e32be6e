// A call's kernels under the timing model: compiled for a GPU that need not be there, with the turns that the call's
// kept tiles make of their loops. What it gives is predicted, not measured.
#pragma once

#include <memory>

#include "autotune/timeline.h"
#include "autotune/trial.h"
#include "ops/kept_pattern.h"

namespace weft::autotune {

class CallTimeline {
 public:
  /// The problem's tensors lie on the CPU, which finds the kept tiles. Throws c10::Error where the call is wrong.
  CallTimeline(const Problem &problem, const timeline::Chip &chip);

  /// The schedule that the chip's calls have without tuning.
  Schedule untuned() const;
  /// Kernels of the problem's direction, in their order.
  std::vector<std::string> kernels(const Schedule &schedule) const;
  /// Thread-safe. Throws std::runtime_error with the compiler's words, or ptxas's.
  timeline::Timeline predict(const std::string &kernel, const Schedule &schedule) const;
  /// All kernels of the direction, one after the other.
  std::vector<timeline::Timeline> predict(const Schedule &schedule) const;

  /// The call as on the chip: for the search space and the model that counts.
  const ops::Binding &binding() const { return call; }
  const ops::KeptPattern &pattern() const { return kept; }

 private:
  const timeline::Chip &chip;
  const bool backward;
  std::shared_ptr<const Variant> variant;
  ops::CallShape shape;
  Device device;  ///< the emulator, that stands for the chip's architecture
  ops::KernelSet set, hostSet;
  ops::Binding call, host;
  ops::KeptPattern kept;

  CallForm form(const Schedule &schedule) const;
  int otherTurns(const std::string &kernel, const KernelImage &image) const;
  timeline::Load load(const std::string &kernel, const KernelImage &image, const CallPlan &plan,
                      const Schedule &schedule) const;
};

/// A schedule and what is predicted of it.
struct Prediction {
  Schedule schedule;
  double seconds = 0;
  bool refined = false;  ///< by its machine code; else counted
  std::string error;     ///< why it was not refined
};
/// The schedules of a call for a chip, the fastest first: all counted, the best `refined` of them, and the default,
/// compiled and predicted. The default is found by CallTimeline::untuned. `progress` is told how many are done.
std::vector<Prediction> rank(const CallTimeline &call, bool backward, size_t refined,
                             const std::function<void(size_t done, size_t total)> &progress);

}  // namespace weft::autotune
