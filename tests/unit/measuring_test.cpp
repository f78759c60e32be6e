// What is concluded from samples: made up ones, of machines that pause, drift and change their clock. Nothing is timed
// here.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

#include "autotune/samples.h"
#include "autotune/turns.h"

namespace weft::autotune {
namespace {

/// A machine whose clock is ours: a run takes what `machine` says at its time, and the time passes.
struct Machine {
  std::function<double(double now)> slowdown = [](double) { return 1.0; };
  std::mt19937 random{7};
  double noise = 0.01, now = 0;

  std::function<double()> method(double seconds) {
    return [this, seconds] {
      // Noise only ever slows, as that of machines does.
      const double took = seconds * slowdown(now) * (1 + noise * std::exponential_distribution<double>(1)(random));
      now += took;
      return took;
    };
  }
  TurnsEnd measure(std::vector<Method> &methods, const Effort &effort) {
    return takeTurns(methods, effort, [this] { return now; }, {});
  }
};

TEST(Samples, MedianOfAnyCount) {
  EXPECT_EQ(median({}), 0);
  EXPECT_EQ(median({3}), 3);
  EXPECT_EQ(median({4, 1}), 2.5);
  EXPECT_EQ(median({9, 1, 5}), 5);
  EXPECT_EQ(median({9, 1, 5, 4}), 4.5);
}

TEST(Samples, IntervalsAreThoseOfTheTables) {
  // Ranks of the 95 % interval of a median: (1, 6) of 6, (2, 8) of 9, (6, 15) of 20, (10, 21) of 30, (40, 61) of 100.
  for (const auto &[n, low, high] :
       std::vector<std::array<int, 3>>{{6, 1, 6}, {9, 2, 8}, {20, 6, 15}, {30, 10, 21}, {100, 40, 61}}) {
    std::vector<double> samples;
    for (int at = 0; at < n; ++at)
      samples.push_back(1 + at * 37 % n);  // 37 and each n have no common divisor: every rank once
    std::shuffle(samples.begin(), samples.end(), std::mt19937(n));
    const Interval interval = medianInterval(samples);
    EXPECT_EQ(interval.low, low) << n;
    EXPECT_EQ(interval.high, high) << n;
  }
  EXPECT_TRUE(std::isinf(medianInterval({1, 1, 1, 1, 1}).high));
  EXPECT_TRUE(std::isinf(uncertainty({1, 1, 1, 1, 1})));
  EXPECT_EQ(uncertainty({1, 1, 1, 1, 1, 1}), 0);
  EXPECT_TRUE(std::isfinite(uncertainty(std::vector<double>(5000, 2.0))));
}

TEST(Samples, IntervalsHoldTheMedianAsOftenAsTheySay) {
  std::mt19937 random(3);
  for (const size_t n : {6, 9, 17, 40}) {
    int held = 0;
    for (int turn = 0; turn < 2000; ++turn) {
      std::vector<double> samples;
      for (size_t at = 0; at < n; ++at) samples.push_back(1 + std::exponential_distribution<double>(1)(random));
      const Interval interval = medianInterval(samples);
      held += interval.low <= 1 + std::log(2.0) && 1 + std::log(2.0) <= interval.high;
    }
    EXPECT_GE(held, 1880) << n;  // 1,900 of 2,000 but for two standard deviations
  }
}

TEST(Samples, HalvesThatContradictEachOtherAreNotKnown) {
  // 20 % slower from the middle on: every sample agrees with its neighbours, yet there is no one median.
  std::vector<double> samples;
  for (int at = 0; at < 60; ++at) samples.push_back((at < 28 ? 1.0 : 1.2) + 0.001 * (at * 7 % 5));
  EXPECT_GT(uncertainty(samples), 0.05);
  const Interval interval = medianInterval(samples);
  EXPECT_LT(interval.low, 1.01);
  EXPECT_GT(interval.high, 1.19);
}

TEST(Samples, RatiosOfRoundsSeeThroughDrift) {
  // Both get three times slower from first to last round; one takes 1.1 times as long as the other.
  std::vector<double> a, b;
  for (int round = 0; round < 12; ++round) {
    const double slow = 1 + 2.0 * round / 11;
    a.push_back(1.1 * slow * (1 + 0.002 * (round * 5 % 3)));
    b.push_back(slow);
  }
  const Ratio ratio = ratioOfRounds(a, b);
  EXPECT_NEAR(ratio.value, 1.1, 0.005);
  EXPECT_TRUE(ratio.above(1));
  EXPECT_TRUE(ratioOfRounds(b, a).below(1));
  EXPECT_GT(uncertainty(a), 0.2);
  const Ratio same = ratioOfRounds({1, 1.1, 0.9, 1.05, 0.97, 1.02, 1}, {1, 1, 1, 1, 1, 1, 1});
  EXPECT_FALSE(same.above(1) || same.below(1));
  const Ratio few = ratioOfRounds({9, 9, 9}, {1, 1, 1});
  EXPECT_FALSE(few.above(1)) << "three rounds say nothing";
}

TEST(Turns, AQuietMachineIsMeasuredShortly) {
  Machine machine;
  std::vector<Method> methods{{"a", machine.method(0.002), {}, ""}, {"b", machine.method(0.003), {}, ""}};
  EXPECT_EQ(machine.measure(methods, {}), TurnsEnd::Known);
  EXPECT_LT(machine.now, 0.5);
  EXPECT_NEAR(median(methods[0].samples), 0.002, 0.00005);
  EXPECT_EQ(methods[0].samples.size(), methods[1].samples.size());
}

TEST(Turns, APauseIsWaitedOut) {
  // The machine does something else for 150 ms, as rows of 2.5 ms begin: nine rounds would all be six times too slow.
  Machine machine;
  machine.slowdown = [](double now) { return now < 0.15 ? 6.6 : 1.0; };
  std::vector<Method> methods{{"a", machine.method(0.0025), {}, ""}};
  EXPECT_EQ(machine.measure(methods, {}), TurnsEnd::Known);
  EXPECT_NEAR(median(methods[0].samples), 0.0025, 0.0001);
  // One in the middle, and one that takes so long that little else is seen: known, or said not to be.
  for (const double length : {0.1, 1.0, 3.0, 6.0, 8.0}) {
    Machine other;
    other.slowdown = [=](double now) { return now > 0.1 && now < 0.1 + length ? 6.6 : 1.0; };
    std::vector<Method> own{{"a", other.method(0.0025), {}, ""}};
    const TurnsEnd end = other.measure(own, {});
    if (end == TurnsEnd::Known) EXPECT_NEAR(median(own[0].samples), 0.0025, 0.0001) << length;
    else EXPECT_GT(uncertainty(own[0].samples), 0.03) << length;
  }
}

TEST(Turns, DriftAndTwoClocksAreSaid) {
  Machine drifting;
  drifting.slowdown = [](double now) { return 1 + 0.8 * now; };
  std::vector<Method> methods{{"a", drifting.method(0.05), {}, ""}};
  EXPECT_EQ(drifting.measure(methods, {}), TurnsEnd::Spent);
  EXPECT_GT(uncertainty(methods[0].samples), 0.03);
  EXPECT_NEAR(drifting.now, 10, 0.5);
  // Half of all runs at another clock: no number of samples makes one median of them.
  Machine bimodal;
  bimodal.slowdown = [&](double) { return bimodal.random() % 2 ? 1.0 : 1.3; };
  std::vector<Method> both{{"a", bimodal.method(0.02), {}, ""}, {"b", bimodal.method(0.02), {}, ""}};
  EXPECT_EQ(bimodal.measure(both, {}), TurnsEnd::Spent);
  const Ratio ratio = ratioOfRounds(both[0].samples, both[1].samples);
  EXPECT_FALSE(ratio.above(1) || ratio.below(1));
}

TEST(Turns, LongRunsHaveThreeRoundsAndAreNotKnown) {
  Machine machine;
  std::vector<Method> methods{{"a", machine.method(20), {}, ""}};
  EXPECT_EQ(machine.measure(methods, {}), TurnsEnd::Spent);
  EXPECT_EQ(methods[0].samples.size(), 3u);
}

TEST(Turns, AMethodThatFailsStepsOut) {
  Machine machine;
  int runs = 0;
  std::vector<Method> methods{{"a", machine.method(0.01), {}, ""},
                              {"b",
                               [&]() -> double {
                                 if (++runs == 4) throw std::runtime_error("out of memory");
                                 return 0.01;
                               },
                               {},
                               ""}};
  EXPECT_EQ(machine.measure(methods, {}), TurnsEnd::Known);
  EXPECT_EQ(methods[1].error, "out of memory");
  EXPECT_TRUE(methods[1].samples.empty());
  EXPECT_EQ(runs, 4);
  EXPECT_GE(methods[0].samples.size(), 9u);
  std::vector<Method> none{{"b", []() -> double { throw std::runtime_error("gone"); }, {}, ""}};
  EXPECT_EQ(machine.measure(none, {}), TurnsEnd::Known);
}

TEST(Turns, StopIsAskedBeforeEachRun) {
  Machine machine;
  int left = 5;
  std::vector<Method> methods{{"a", machine.method(0.01), {}, ""}, {"b", machine.method(0.01), {}, ""}};
  EXPECT_EQ(takeTurns(methods, {}, [&] { return machine.now; }, [&] { return left-- == 0; }), TurnsEnd::Stopped);
  EXPECT_EQ(methods[0].samples.size(), 2u);
  EXPECT_EQ(methods[1].samples.size(), 1u);
}

}  // namespace
}  // namespace weft::autotune
