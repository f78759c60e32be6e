// The kernel cache: damaged entries, several threads and processes, death, no place to write, places that are not to be
// trusted, another build's entries.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <thread>

#include "runtime/kernel_cache.h"
#include "tests/unit/call.h"
#include "tests/unit/inputs.h"

namespace weft::testing {
namespace {

namespace fs = std::filesystem;

/// A cache of its own; runs `body` in a child process, whose memory holds no kernels yet.
class Cache : public ::testing::Test {
 protected:
  static constexpr int kernels = 2;  // of a call: plan_band and forward
  fs::path directory = fs::temp_directory_path() / ("weft-cache-test-" + std::to_string(getpid()));
  fs::path said = directory.string() + "-said";
  void SetUp() override { TearDown(); }
  void TearDown() override {
    fs::remove_all(directory);
    fs::remove(said);
  }

  /// Where the child looks for its cache; what it says goes to `said`.
  std::function<void()> surroundings = [this] { setenv("WEFT_CACHE_DIR", directory.c_str(), 1); };
  int threads = 1;

  /// Result is the child's exit code: 0 when causal attention gives the reference's result on all of its threads, and
  /// each kernel was compiled once at most.
  pid_t start(int salt) {
    const pid_t child = fork();
    if (child != 0) return child;
    const int log = open(said.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (log >= 0) dup2(log, STDERR_FILENO);
    surroundings();
    try {
      auto variant = variantOf("attention t" + std::to_string(salt) +
                               "(q: [B,H,T,D], k: [B,H,S,D], v: [B,H,S,E]) { where i >= j score dot(q[i], k[j]) }");
      const Shape shape{1, 1, 1, 20, 20, 16, 16};
      auto inputs = randomInputs(*variant, shape, 1);
      auto want = reference::evaluate(variant->tree(), inputs, {});
      const int64_t before = kernelsCompiled();
      std::vector<std::thread> workers;
      std::vector<int> right(threads, 0);
      for (int at = 0; at < threads; ++at)
        workers.emplace_back([&, at] {
          try {
            right[at] = relativeError(call(variant, inputs, {}).o, want.o.values) < 1e-5;
          } catch (...) {
          }
        });
      for (std::thread &worker : workers) worker.join();
      if (std::count(right.begin(), right.end(), 1) != threads) _exit(3);
      _exit(kernelsCompiled() - before > kernels ? 5 : 0);
    } catch (...) {
      _exit(4);
    }
  }
  static int finish(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
  }
  std::vector<fs::path> entries() {
    std::vector<fs::path> found;
    if (fs::exists(directory))
      for (auto &entry : fs::recursive_directory_iterator(directory))
        if (entry.is_regular_file() && entry.path().filename() != "turns") found.push_back(entry.path());
    return found;
  }
  static std::string read(const fs::path &path) {
    std::ifstream stream(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  /// How often children said it.
  size_t times(const std::string &what) {
    const std::string all = read(said);
    size_t count = 0;
    for (size_t at = all.find(what); at != std::string::npos; at = all.find(what, at + 1)) ++count;
    return count;
  }
};

TEST_F(Cache, keepsEntriesBetweenProcesses) {
  ASSERT_EQ(finish(start(1)), 0);
  const auto first = entries();
  ASSERT_EQ(first.size(), 2u);  // plan_band and forward
  const auto time = fs::last_write_time(first[0]);
  ASSERT_EQ(finish(start(1)), 0);
  EXPECT_EQ(entries().size(), 2u);
  EXPECT_EQ(fs::last_write_time(first[0]), time);
}

TEST_F(Cache, rebuildsDamagedEntries) {
  ASSERT_EQ(finish(start(1)), 0);
  for (const fs::path &path : entries()) {
    const std::string good = read(path);
    std::string flipped = good;
    flipped[flipped.size() - 100] ^= 1;
    for (const std::string &bad :
         {std::string(), good.substr(0, 5), good.substr(0, good.size() / 2), flipped,
          std::string("weftkernel3\n99999999\n{"), std::string("weftkernel3\nx\n"), good + "x"}) {
      std::ofstream(path, std::ios::binary) << bad;
      ASSERT_EQ(finish(start(1)), 0);
      EXPECT_EQ(read(path), good);
    }
  }
}

TEST_F(Cache, ignoresEntriesOfAnotherKernel) {
  ASSERT_EQ(finish(start(1)), 0);
  const auto files = entries();
  const std::string first = read(files[0]), second = read(files[1]);
  std::ofstream(files[0], std::ios::binary) << second;
  ASSERT_EQ(finish(start(1)), 0);
  EXPECT_EQ(read(files[0]), first);
}

TEST_F(Cache, sixteenProcessesFillIt) {
  std::vector<pid_t> children;
  for (int at = 0; at < 16; ++at) children.push_back(start(2));
  for (pid_t child : children) EXPECT_EQ(finish(child), 0);
  EXPECT_EQ(entries().size(), 2u);
  EXPECT_EQ(times("warning"), 0u) << read(said);
}

TEST_F(Cache, ofSixteenThreadsOneCompiles) {
  threads = 16;
  EXPECT_EQ(finish(start(4)), 0);
  EXPECT_EQ(entries().size(), 2u);
  // And where nothing is kept.
  surroundings = [] { setenv("WEFT_CACHE_DIR", "/dev/null", 1); };
  EXPECT_EQ(finish(start(4)), 0);
}

TEST_F(Cache, survivesDeathAtAnyMoment) {
  // WEFT_KILLS=200 for a long look.
  const char *wish = std::getenv("WEFT_KILLS");
  const int kills = wish ? std::atoi(wish) : 10;
  const unsigned seed = std::random_device()();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  // As long as a call takes, so that deaths fall on all of it, however fast the machine is.
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(finish(start(5)), 0);
  const double whole = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
  fs::remove_all(directory);
  int died = 0;
  for (int at = 0; at < kills; ++at) {
    const pid_t child = start(5);
    usleep(static_cast<useconds_t>(std::uniform_real_distribution<>(0, whole)(random)));
    kill(child, SIGKILL);
    died += finish(child) == 99;
    // What is there is whole: nobody finds anything to complain of.
    if (at % 10 == 9) {
      ASSERT_EQ(finish(start(5)), 0);
      if (at + 1 < kills) fs::remove_all(directory / "kernels");
    }
  }
  std::printf("%d of %d died\n", died, kills);
  ASSERT_EQ(finish(start(5)), 0);
  EXPECT_EQ(times("warning"), 0u) << read(said);
  // Temporaries of the dead go when they are old.
  const fs::path kept = directory / "kernels", left = kept / ".weft-0123456789abcdef.tmp";
  std::ofstream(left) << "half of a kern";
  for (const fs::path &path : entries())
    if (path.extension() == ".tmp")
      fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::hours(24));
  ASSERT_EQ(finish(start(6)), 0);
  EXPECT_EQ(entries().size(), 4u);  // two kernels of each variant
}

TEST_F(Cache, worksWithoutAPlaceToWrite) {
  std::ofstream(directory.string()) << "a file, not a directory";
  EXPECT_EQ(finish(start(3)), 0);
  fs::remove(directory);
  fs::create_directories(directory);
  fs::create_symlink("/dev/full", directory / "kernels");
  EXPECT_EQ(finish(start(3)), 0);
  EXPECT_EQ(times("warning"), 2u) << read(said);
}

TEST_F(Cache, isNotUsedWhereOthersMayWrite) {
  ASSERT_EQ(finish(start(1)), 0);
  const fs::path kept = directory / "kernels";
  const auto files = entries();
  EXPECT_EQ(fs::status(directory).permissions(), fs::perms::owner_all);
  EXPECT_EQ(fs::status(kept).permissions(), fs::perms::owner_all);
  for (const fs::path &path : files)
    EXPECT_EQ(fs::status(path).permissions(), fs::perms::owner_read | fs::perms::owner_write);

  // The folder: not read, not written, one warning for all kernels, which says what would be right.
  for (const fs::path &open : {kept, directory}) {
    for (const fs::path &path : files) std::ofstream(path, std::ios::binary) << "planted";
    ASSERT_EQ(chmod(open.c_str(), 0777), 0);
    fs::remove(said);
    EXPECT_EQ(finish(start(1)), 0);
    EXPECT_EQ(times("warning"), 1u) << read(said);
    EXPECT_EQ(times("chmod go-w " + open.string()), 1u) << read(said);
    for (const fs::path &path : files) EXPECT_EQ(read(path), "planted");
    ASSERT_EQ(chmod(open.c_str(), 0700), 0);
  }
  fs::remove(said);
  EXPECT_EQ(finish(start(1)), 0);  // rebuilt
  EXPECT_EQ(times("rebuilt"), 2u) << read(said);

  // A file in a good folder, and a link: made anew.
  ASSERT_EQ(chmod(files[0].c_str(), 0666), 0);
  const fs::path moved = directory / "moved";
  fs::rename(files[1], moved);
  fs::create_symlink(moved, files[1]);
  fs::remove(said);
  EXPECT_EQ(finish(start(1)), 0);
  EXPECT_EQ(times("rebuilt"), 2u) << read(said);
  EXPECT_EQ(fs::status(files[0]).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  EXPECT_FALSE(fs::is_symlink(files[1]));
}

TEST_F(Cache, isNeverInAPlaceThatAllShare) {
  const pid_t child = fork();
  if (child == 0) {
    for (const char *name : {"WEFT_CACHE_DIR", "XDG_CACHE_HOME", "HOME"}) unsetenv(name);
    const std::string own = cacheDirectory();
    if (own.rfind("/tmp", 0) == 0) _exit(1);
    setenv("XDG_CACHE_HOME", "relative", 1);
    setenv("HOME", "also/relative", 1);
    _exit(cacheDirectory() == own ? 0 : 2);
  }
  EXPECT_EQ(finish(child), 0);
  if (geteuid() != 0) GTEST_SKIP() << "only root can be a user without a home";
  surroundings = [] {
    for (const char *name : {"WEFT_CACHE_DIR", "XDG_CACHE_HOME", "HOME"}) unsetenv(name);
    if (seteuid(54321) != 0 || !cacheDirectory().empty()) _exit(7);
  };
  EXPECT_EQ(finish(start(1)), 0);
  EXPECT_EQ(times("no home directory"), 1u) << read(said);
}

TEST(Threads, callsFromSeveralThreadsAgree) {
  auto variant = variantOf("causal");
  const Shape shape{2, 2, 2, 100, 100, 32, 32};
  auto inputs = randomInputs(*variant, shape, 6);
  auto cotangent = randomCotangent(shape, 6);
  const auto want = call(variant, inputs, cotangent);
  std::vector<std::thread> threads;
  std::vector<int> same(4, 0);
  for (int at = 0; at < 4; ++at)
    threads.emplace_back([&, at] {
      const auto got = call(variant, inputs, cotangent, {64, 64, BackwardForm::Fused, 2});
      same[at] = got.o == want.o && got.gradients == want.gradients;
    });
  for (std::thread &thread : threads) thread.join();
  for (int value : same) EXPECT_TRUE(value);
}

TEST(Threads, allHearOfAFailure) {
  CompileRequest request;
  request.variant = variantOf("causal");
  request.kernel = "nope";
  request.dims = {{"D", 16}, {"E", 16}};
  std::vector<std::thread> threads;
  std::vector<std::string> heard(8);
  for (std::string &own : heard)
    threads.emplace_back([&] {
      for (int time = 0; time < 2; ++time) try {
          loadKernel(request);
        } catch (const std::runtime_error &error) {
          own = error.what();
        }
    });
  for (std::thread &thread : threads) thread.join();
  for (const std::string &own : heard) EXPECT_NE(own.find("has no kernel 'nope'"), std::string::npos) << own;
}

}  // namespace
}  // namespace weft::testing
