#include "autotune/samples.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

namespace weft::autotune {
namespace {

constexpr double confidence = 0.95;

/// The largest k for which the k-th smallest and the k-th largest of n samples hold the median between them; 0: none
/// does.
size_t rankOfInterval(size_t n) {
  // Chances in logarithms: 2^-n is 0 from n = 1,075 on.
  double tail = 0;
  for (size_t k = 0; 2 * k < n; ++k) {
    const double count = static_cast<double>(n), heads = static_cast<double>(k);
    tail += std::exp(std::lgamma(count + 1) - std::lgamma(heads + 1) - std::lgamma(count - heads + 1) -
                     count * std::log(2.0));
    if (2 * tail > 1 - confidence) return k;
  }
  return n / 2;
}

Interval inOrderOfSize(std::vector<double> samples) {
  const size_t k = rankOfInterval(samples.size());
  if (k == 0) return {0, std::numeric_limits<double>::infinity()};
  std::sort(samples.begin(), samples.end());
  return {samples[k - 1], samples[samples.size() - k]};
}

}  // namespace

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const size_t middle = values.size() / 2;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(middle), values.end());
  if (values.size() % 2) return values[middle];
  return (values[middle] + *std::max_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(middle))) / 2;
}

Interval medianInterval(const std::vector<double> &samples) {
  Interval all = inOrderOfSize(samples);
  const auto half = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
  const std::vector<double> first(samples.begin(), half), second(half, samples.end());
  const Interval before = inOrderOfSize(first), after = inOrderOfSize(second);
  if (before.high < after.low || after.high < before.low) {
    all.low = std::min({all.low, median(first), median(second)});
    all.high = std::max({all.high, median(first), median(second)});
  }
  return all;
}

double uncertainty(const std::vector<double> &samples) {
  const Interval interval = medianInterval(samples);
  return (interval.high - interval.low) / 2 / median(samples);
}

Ratio ratioOfRounds(const std::vector<double> &a, const std::vector<double> &b) {
  std::vector<double> ratios;
  for (size_t round = 0; round < std::min(a.size(), b.size()); ++round) ratios.push_back(a[round] / b[round]);
  return {median(ratios), medianInterval(ratios)};
}

}  // namespace weft::autotune
