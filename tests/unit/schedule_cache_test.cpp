// Tuned schedules on disk: many threads and processes store, read, merge and lock at the same time, and nothing is
// lost.
#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <thread>
#include <vector>

#include "runtime/schedule_cache.h"

namespace weft::testing {
namespace {

namespace fs = std::filesystem;

/// A cache of its own.
class Schedules : public ::testing::Test {
 protected:
  fs::path directory = fs::temp_directory_path() / ("weft-schedules-test-" + std::to_string(getpid()));
  std::string before;

  void SetUp() override {
    fs::remove_all(directory);
    if (const char *own = std::getenv("WEFT_CACHE_DIR")) before = own;
    setenv("WEFT_CACHE_DIR", directory.c_str(), 1);
  }
  void TearDown() override {
    if (before.empty()) unsetenv("WEFT_CACHE_DIR");
    else setenv("WEFT_CACHE_DIR", before.c_str(), 1);
    fs::remove_all(directory);
  }

  static TuningEntry entry(int writer, int number, double seconds = 1) {
    TuningEntry own;
    own.key.variant = "variant" + std::to_string(writer);
    own.key.variantHash = "hash";
    own.key.headDims = {{"D", 64}};
    own.key.keys = bucketOf(int64_t{1} << number);
    own.build = "build";
    own.shape = "1,1,1,64";
    own.complete = true;
    own.seconds = own.defaultSeconds = seconds;
    own.points = {{{}, 0.5, {1.0, 2.0}, "note"}};
    return own;
  }
};

constexpr int writers = 4, rounds = 10;

TEST_F(Schedules, threadsLoseNothingOfEachOther) {
  const ScheduleCache shared(Device{});
  std::vector<std::thread> threads;
  std::vector<int> missed(writers, 0);
  for (int writer = 0; writer < writers; ++writer)
    threads.emplace_back([&, writer] {
      const ScheduleCache own(Device{});
      for (int round = 0; round < rounds; ++round) {
        (round % 2 ? own : shared).store(entry(writer, round));
        const auto found = shared.find(entry(writer, round).key);
        missed[static_cast<size_t>(writer)] += !found || found->points.at(0).samples != std::vector<double>{1, 2};
      }
    });
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(missed, std::vector<int>(writers, 0));
  EXPECT_EQ(shared.entries().size(), size_t{writers * rounds});
}

TEST_F(Schedules, processesLoseNothingOfEachOther) {
  std::vector<pid_t> children;
  for (int writer = 0; writer < writers; ++writer) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      try {
        for (int round = 0; round < rounds; ++round) ScheduleCache(Device{}).store(entry(writer, round));
        _exit(0);
      } catch (...) {
        _exit(1);
      }
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(ScheduleCache(Device{}).entries().size(), size_t{writers * rounds});
}

TEST_F(Schedules, whoMergesMeanwhileTakesTheFaster) {
  const ScheduleCache cache(Device{});
  for (int round = 0; round < rounds; ++round) cache.store(entry(0, round, round % 2 ? 2 : 0.5));
  const fs::path other = directory / "other.json";
  cache.exportTo(other);
  fs::remove(cache.path());
  for (int round = 0; round < rounds; ++round) cache.store(entry(0, round, 1));
  std::vector<std::thread> threads;
  threads.emplace_back([&] { EXPECT_EQ(cache.merge(other), size_t{rounds / 2}); });
  threads.emplace_back([&] {
    for (int round = 0; round < rounds; ++round) cache.store(entry(1, round));
  });
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(cache.entries().size(), size_t{2 * rounds});
  for (int round = 0; round < rounds; ++round)
    EXPECT_EQ(cache.find(entry(0, round).key)->seconds, round % 2 ? 1 : 0.5) << round;
}

TEST_F(Schedules, oneSearchAtATime) {
  const ScheduleCache cache(Device{});
  const auto held = cache.tuningLock();
  EXPECT_TRUE(held->held());
  std::thread([&] {
    EXPECT_FALSE(ScheduleCache(Device{}).tuningLock()->held());
    cache.store(entry(0, 0));  // results are kept meanwhile
  }).join();
  EXPECT_TRUE(cache.find(entry(0, 0).key));
}

}  // namespace
}  // namespace weft::testing
