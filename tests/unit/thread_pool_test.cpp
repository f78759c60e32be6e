// The thread pool: all of a range once, workers that do not share a number, callers that take turns, a forked child.
#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <thread>
#include <vector>

#include "runtime/cpu/thread_pool.h"

namespace weft::testing {
namespace {

/// Of 0 .. count - 1, those that were not visited exactly once. Written without atomics: ThreadSanitizer sees whether
/// the pool orders them before the caller reads.
int64_t notVisitedOnce(int64_t count, int threads) {
  std::vector<int> visits(static_cast<size_t>(count), 0);
  cpu::parallelFor(count, threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t at = begin; at < end; ++at) ++visits[static_cast<size_t>(at)];
  });
  return count - std::count(visits.begin(), visits.end(), 1);
}

TEST(ThreadPool, visitsAllOnce) {
  for (int threads : {1, 2, 5})
    for (int64_t count : {0, 1, 2, 3, 64, 1000, 12345}) EXPECT_EQ(notVisitedOnce(count, threads), 0) << count;
}

TEST(ThreadPool, aWorkerIsOneThreadAtATime) {
  constexpr int threads = 4;
  for (int round = 0; round < 50; ++round) {
    std::vector<int64_t> sums(threads, 0);
    cpu::parallelFor(1000, threads, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t at = begin; at < end; ++at) sums.at(static_cast<size_t>(worker)) += at;
    });
    EXPECT_EQ(std::accumulate(sums.begin(), sums.end(), int64_t{0}), 1000 * 999 / 2);
  }
}

TEST(ThreadPool, callersTakeTurns) {
  std::vector<std::thread> callers;
  std::vector<int64_t> missed(8, -1);
  for (int64_t &own : missed)
    callers.emplace_back([&own, threads = 2 + static_cast<int>(callers.size()) % 3] {
      own = 0;
      for (int round = 0; round < 50; ++round) own += notVisitedOnce(500, threads);
    });
  for (std::thread &caller : callers) caller.join();
  EXPECT_EQ(missed, std::vector<int64_t>(8, 0));
}

TEST(ThreadPool, aForkedChildHasItsOwn) {
  ASSERT_EQ(notVisitedOnce(100, 3), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) _exit(notVisitedOnce(100, 3) == 0 ? 0 : 1);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(notVisitedOnce(100, 3), 0);
}

}  // namespace
}  // namespace weft::testing
