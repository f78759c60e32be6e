// A call's kernels under the timing model: compiled for a chip, with the turns that the call's kept tiles make of their
// loops. What it gives is predicted, not measured.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autotune/timeline.h"
#include "ops/kept_pattern.h"
#include "runtime/schedule_cache.h"

namespace weft::autotune {

class CallTimeline {
 public:
  /// The call and its kept tiles outlive this. The call's device says what code is generated for, the chip what it
  /// would run on.
  CallTimeline(const ops::Binding &call, const ops::KeptPattern &pattern, bool backward, const timeline::Chip &chip)
      : call(call), pattern(pattern), backward(backward), chip(chip) {}

  /// Kernels of the direction, in their order.
  std::vector<std::string> kernels(const Schedule &schedule) const;
  /// Thread-safe. Throws std::runtime_error with the compiler's words, or ptxas's.
  timeline::Timeline predict(const std::string &kernel, const Schedule &schedule) const;
  /// Seconds of all kernels of the direction, one after the other, and of what is done to gradients beside them.
  double seconds(const Schedule &schedule) const;

 private:
  const ops::Binding &call;
  const ops::KeptPattern &pattern;
  const bool backward;
  const timeline::Chip &chip;

  CallForm form(const Schedule &schedule) const;
  int otherTurns(const std::string &kernel, const KernelImage &image) const;
  std::vector<timeline::Turns> programs(const KernelImage &image, const Schedule &schedule) const;
  double secondsOfSums(const Schedule &schedule) const;
  timeline::Load load(const std::string &kernel, const KernelImage &image, const Schedule &schedule) const;
};

/// How many are worth that: the default and the best twenty.
constexpr size_t refinedCandidates = 21;
/// Replaces what the first `count` points are predicted with by what their machine code says, on all cores; the others'
/// times are scaled alike, and all but the first are sorted anew. `stop` is asked before each. Gives how many were
/// replaced; where a point's kernel cannot be assembled its note says why.
size_t predictByCode(const CallTimeline &call, std::vector<TuningPoint> &points, size_t count,
                     const std::function<void(size_t done, size_t total)> &progress, const std::function<bool()> &stop);

}  // namespace weft::autotune
