// One pass of a call under one schedule, ready to be timed.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ops/binding.h"
#include "ops/schedules.h"

namespace weft::autotune {

/// What is tuned: a call and a direction.
struct Problem {
  std::string variant;  ///< as ops::attention takes it
  std::vector<std::string> names;
  std::vector<at::Tensor> tensors;
  bool backward = false;
  std::string shape;  ///< "B,H,T,D", for the record
};

/// What a backward pass starts from.
struct Saved {
  at::Tensor o, rows, dO;
};

class Trial {
 public:
  Trial(const Problem &problem, const Schedule &schedule);

  const Schedule &schedule() const { return set.schedule; }
  /// Compiles all kernels of the pass, or finds them in the cache. Touches no tensor: run it on any thread. Throws
  /// what the compiler says.
  void compile();
  /// Runs the pass once: its outputs, o and the log-sum-exp or every gradient.
  std::vector<at::Tensor> run(const std::optional<Saved> &saved);
  /// Mean seconds of as many passes as last a few milliseconds, after warming up at the first call. On a GPU between
  /// events, with the L2 cache flushed before each pass where asked.
  double seconds(const std::optional<Saved> &saved, bool flush);

 private:
  Trial(const Problem &problem, const Schedule &schedule, const ops::CallShape &shape);

  const Problem &problem;
  ops::KernelSet set;
  CallForm form;
  int repeats = 0;
};

/// GHz of this CPU now, by a chain of dependent multiplications; 0 where it is not known how long one takes.
double clockGhz();

}  // namespace weft::autotune
