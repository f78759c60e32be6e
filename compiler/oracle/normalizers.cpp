#include "compiler/oracle/normalizers.h"

#include <algorithm>
#include <cmath>

#include "compiler/internal_error.h"

namespace weft {

#define WEFT_NORMALIZER(id) extern const NormalizerFacts id##Facts;
#include "compiler/normalizers/normalizers.def"
#undef WEFT_NORMALIZER

namespace reference {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
double logistic(double x) { return 1 / (1 + std::exp(-x)); }

// softmax: w exp(s) / (exp(sink) + sum of w exp(s))
void softmaxForward(Row &row) {
  double top = row.sink.value_or(-infinity);
  for (const Pair &pair : row.pairs)
    if (pair.counts) top = std::max(top, pair.s);
  double mass = row.sink ? std::exp(*row.sink - top) : 0;
  for (const Pair &pair : row.pairs)
    if (pair.counts) mass += pair.w * std::exp(pair.s - top);
  row.lse = mass <= 0 ? -infinity : top + std::log(mass);
  for (Pair &pair : row.pairs) pair.e = row.lse == -infinity ? 0 : std::exp(pair.s - row.lse);
}
void softmaxBackward(Row &row) {
  double delta = 0;
  for (const Pair &pair : row.pairs) delta += pair.p() * pair.dp;
  for (Pair &pair : row.pairs) {
    pair.dw = pair.e * (pair.dp - delta);
    pair.ds = pair.p() * (pair.dp - delta);
  }
  if (row.sink && row.lse > -infinity) row.dsink = -std::exp(*row.sink - row.lse) * delta;
}

// sigmoid: w sigmoid(s)
void sigmoidForward(Row &row) {
  for (Pair &pair : row.pairs) pair.e = logistic(pair.s);
}
void sigmoidBackward(Row &row) {
  for (Pair &pair : row.pairs) {
    pair.dw = pair.e * pair.dp;
    pair.ds = pair.p() * (1 - pair.e) * pair.dp;
  }
}

// none: w s
void noneForward(Row &row) {
  for (Pair &pair : row.pairs) pair.e = pair.s;
}
void noneBackward(Row &row) {
  for (Pair &pair : row.pairs) {
    pair.dw = pair.e * pair.dp;
    pair.ds = pair.counts ? pair.w * pair.dp : 0;
  }
}

// stick_breaking: from the newest key to the oldest, each takes w sigmoid(s) of what those after it have left of 1
void stickBreakingForward(Row &row) {
  double left = 1;
  for (size_t n = row.pairs.size(); n-- > 0;) {
    Pair &pair = row.pairs[n];
    pair.e = logistic(pair.s) * left;
    if (pair.counts) left *= logistic(-pair.s);
  }
}
void stickBreakingBackward(Row &row) {
  double before = 0;  // p dp of the keys before
  for (Pair &pair : row.pairs) {
    pair.dw = pair.e * pair.dp;
    if (!pair.counts) continue;
    pair.ds = pair.p() * pair.dp * (1 - logistic(pair.s)) - logistic(pair.s) * before;
    before += pair.p() * pair.dp;
  }
}

// softmax1: a softmax with a sink of 0
void softmax1Forward(Row &row) {
  row.sink = 0;
  softmaxForward(row);
}
void softmax1Backward(Row &row) { softmaxBackward(row); }

// entmax15: max(s / 2 - tau, 0)^2, tau such that they sum to 1
void entmax15Forward(Row &row) {
  double peak = -infinity;
  for (const Pair &pair : row.pairs)
    if (pair.counts) peak = std::max(peak, pair.s);
  auto excess = [&](const Pair &pair, double tau) {
    return pair.counts ? std::max((pair.s - peak) / 2 - tau, 0.0) : 0.0;
  };
  double low = -1, high = 0;  // at low the sum is 1 or more
  for (int turn = 0; turn < 100; ++turn) {
    const double middle = (low + high) / 2;
    double sum = 0;
    for (const Pair &pair : row.pairs) sum += excess(pair, middle) * excess(pair, middle);
    (sum >= 1 ? low : high) = middle;
  }
  for (Pair &pair : row.pairs) pair.e = excess(pair, low) * excess(pair, low);
}
void entmax15Backward(Row &row) {
  double weighted = 0, total = 0;
  for (const Pair &pair : row.pairs) {
    weighted += std::sqrt(pair.p()) * pair.dp;
    total += std::sqrt(pair.p());
  }
  for (Pair &pair : row.pairs) pair.ds = pair.p() > 0 ? std::sqrt(pair.p()) * (pair.dp - weighted / total) : 0;
}

constexpr RowNormalizer all[] = {
#define WEFT_NORMALIZER(id) {&id##Facts, id##Forward, id##Backward},
#include "compiler/normalizers/normalizers.def"
#undef WEFT_NORMALIZER
};

}  // namespace

const RowNormalizer &normalizerOf(const NormalizerFacts &facts) {
  for (const RowNormalizer &own : all)
    if (own.facts == &facts) return own;
  throw InternalError("oracle", std::string("no definition of ") + facts.name);
}

}  // namespace reference
}  // namespace weft
