// A call on a GPU that need not be there: its tensors lie on the CPU, which finds the kept tiles.
#pragma once

#include <memory>

#include "autotune/call_timeline.h"
#include "autotune/trial.h"

namespace weft::autotune {

class ModelledCall {
 public:
  /// Throws c10::Error where the call is wrong.
  ModelledCall(const Problem &problem, const timeline::Chip &chip);

  /// The schedule that the chip's calls have without tuning.
  const Schedule &untuned() const { return set.schedule; }
  const CallTimeline &timeline() const { return kernels; }
  /// Bound to the CPU's tensors, for what the call keeps.
  const ops::Binding &onHost() const { return host; }
  const ops::KeptPattern &kept() const { return pattern; }
  /// Every schedule worth considering, the default first, then by what is predicted: of the best by their machine code,
  /// of the others by a count. `known` of them are refined.
  std::vector<TuningPoint> rank(const std::function<void(size_t done, size_t total)> &progress, size_t &known) const;

 private:
  const bool backward;
  ops::KernelSet set;      ///< of the emulator, which stands for the chip's architecture
  ops::KernelSet hostSet;  ///< of the CPU
  ops::Binding call, host;
  ops::KeptPattern pattern;
  CallTimeline kernels;

  ModelledCall(const Problem &problem, const timeline::Chip &chip, const std::shared_ptr<const Variant> &variant,
               const ops::CallShape &shape, const Device &device, const Schedule &schedule);
};

}  // namespace weft::autotune
