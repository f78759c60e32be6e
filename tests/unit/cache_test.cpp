// The kernel cache: damaged entries, several processes, no place to write, another build's entries.
#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
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
  fs::path directory = fs::temp_directory_path() / ("weft-cache-test-" + std::to_string(getpid()));
  void SetUp() override { fs::remove_all(directory); }
  void TearDown() override { fs::remove_all(directory); }

  /// The child's exit code: 0 when causal attention gives the reference's result.
  pid_t start(int salt) {
    const pid_t child = fork();
    if (child != 0) return child;
    setenv("WEFT_CACHE_DIR", directory.c_str(), 1);
    setenv("WEFT_LOG", "off", 1);
    try {
      auto variant = variantOf("attention t" + std::to_string(salt) + "(q: [B,H,T,D], k: [B,H,S,D], v: [B,H,S,E]) { where i >= j score dot(q[i], k[j]) }");
      const Shape shape{1, 1, 1, 20, 20, 16, 16};
      auto inputs = randomInputs(*variant, shape, 1);
      auto want = reference::evaluate(variant->tree(), inputs, {});
      _exit(relativeError(call(variant, inputs, {}).o, want.o.values) < 1e-5 ? 0 : 3);
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
        if (entry.is_regular_file()) found.push_back(entry.path());
    return found;
  }
  static std::string read(const fs::path &path) {
    std::ifstream stream(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
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
    for (const std::string &bad : {std::string(), good.substr(0, 5), good.substr(0, good.size() / 2), flipped, std::string("weftkernel1\n99999999\n{"),
                                   std::string("weftkernel1\nx\n")}) {
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

TEST_F(Cache, manyProcessesShareIt) {
  std::vector<pid_t> children;
  for (int at = 0; at < 6; ++at) children.push_back(start(2));
  for (pid_t child : children) EXPECT_EQ(finish(child), 0);
  EXPECT_EQ(entries().size(), 2u);
}

TEST_F(Cache, worksWithoutAPlaceToWrite) {
  std::ofstream(directory.string()) << "a file, not a directory";
  EXPECT_EQ(finish(start(3)), 0);
  fs::remove(directory);
  // A full disk: every write fails with ENOSPC.
  if (fs::exists("/dev/full")) {
    fs::create_directories(directory);
    fs::create_symlink("/dev/full", directory / "kernels");
    EXPECT_EQ(finish(start(3)), 0);
  }
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
      const auto got = call(variant, inputs, cotangent, {64, 64, false, 2});
      same[at] = got.o == want.o && got.gradients == want.gradients;
    });
  for (std::thread &thread : threads) thread.join();
  for (int value : same) EXPECT_TRUE(value);
}

}  // namespace
}  // namespace weft::testing
