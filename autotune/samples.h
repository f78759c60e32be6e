// What times say that were taken on a machine that pauses, drifts and changes its clock. Nothing is assumed of how they
// are distributed: medians, and intervals from one sample to another in order of size. Plain numbers in and out.
#pragma once

#include <vector>

namespace weft::autotune {

/// The middle of the values, which need not be sorted; 0 of none.
double median(std::vector<double> values);

struct Interval {
  double low, high;
};

/// Where the median of what the samples were drawn from lies, with 95 % at least: no distribution has it outside of the
/// k-th smallest and the k-th largest of n samples more often than twice the chance of fewer than k heads in n throws.
/// The samples come in the order they were taken in: where both halves know their medians and contradict each other,
/// the machine has changed meanwhile and the interval spans both. Fewer than six samples know nothing: from 0 to
/// infinity.
Interval medianInterval(const std::vector<double> &samples);

/// Half the width of that interval relative to the median; infinity of fewer than six samples.
double uncertainty(const std::vector<double> &samples);

/// How many times as long as `b` something takes.
struct Ratio {
  double value = 0;
  Interval interval{0, 0};

  bool above(double one) const { return interval.low > one; }
  bool below(double one) const { return interval.high < one; }
};
/// Of samples taken in the same rounds, the median of a[i] / b[i]: what slows a whole round does not count. The rounds
/// that both have.
Ratio ratioOfRounds(const std::vector<double> &a, const std::vector<double> &b);

}  // namespace weft::autotune
