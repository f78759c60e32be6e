// Durable files: the order of their steps, each step's failure, links, threads, temporaries left behind; folders that
// are not to be trusted; the digest.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "runtime/atomic_file.h"
#include "runtime/file_lock.h"
#include "runtime/private_folder.h"
#include "runtime/sha256.h"

namespace weft::testing {
namespace {

namespace fs = std::filesystem;

/// The calls of the C library that a replacement makes, on their way to the system.
struct Watch {
  std::vector<std::string> steps;
  std::vector<std::string> names;  ///< of temporaries
  std::string failing;             ///< a step that fails with `error`
  int error = EIO;
  std::string dying;         ///< a step before which the process ends
  size_t most = SIZE_MAX;    ///< bytes that one write takes
  bool interrupted = false;  ///< every other write is
};
thread_local Watch *watch = nullptr;

/// False where the step is to fail.
bool step(const std::string &name) {
  if (!watch) return true;
  if (watch->dying == name) _exit(9);
  watch->steps.push_back(name);
  errno = watch->error;
  return watch->failing != name;
}

struct Watching {
  explicit Watching(Watch &own) { watch = &own; }
  ~Watching() { watch = nullptr; }
};

}  // namespace
}  // namespace weft::testing

// These come before the C library's own where libraries look for them.
extern "C" ssize_t write(int file, const void *bytes, size_t count) {
  using namespace weft::testing;
  if (watch && !step("write")) return -1;
  if (watch && watch->interrupted && watch->steps.size() % 2) {
    errno = EINTR;
    return -1;
  }
  return syscall(SYS_write, file, bytes, watch ? std::min(count, watch->most) : count);
}
extern "C" int fsync(int file) {
  using namespace weft::testing;
  struct stat found;
  if (watch && !step(fstat(file, &found) == 0 && S_ISDIR(found.st_mode) ? "flush folder" : "flush file")) return -1;
  return static_cast<int>(syscall(SYS_fsync, file));
}
extern "C" int renameat(int from, const char *name, int to, const char *other) noexcept {
  using namespace weft::testing;
  if (watch && !step("rename")) return -1;
  if (watch) watch->names.push_back(name);
  return static_cast<int>(syscall(SYS_renameat2, from, name, to, other, 0));
}

namespace weft::testing {
namespace {

class Storage : public ::testing::Test {
 protected:
  fs::path directory = fs::temp_directory_path() / ("weft-storage-test-" + std::to_string(getpid()));
  fs::path file = directory / "file";
  void SetUp() override {
    fs::remove_all(directory);
    ASSERT_EQ(mkdir(directory.c_str(), 0700), 0);
  }
  void TearDown() override { fs::remove_all(directory); }

  static std::string read(const fs::path &path) {
    std::string text;
    return readFile(path, text) ? text : "none";
  }
  size_t count() const { return static_cast<size_t>(std::distance(fs::directory_iterator(directory), {})); }
  static void age(const fs::path &path, int hours) {
    fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::hours(hours));
  }
  static unsigned mode(const fs::path &path) { return static_cast<unsigned>(fs::status(path).permissions()); }
};
using ReplaceFile = Storage;
using Folders = Storage;

TEST(Sha256, standardVectors) {
  // FIPS 180-4's own examples, and lengths around a block.
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmno"
                   "pqrstnopqrstu"),
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  EXPECT_EQ(sha256(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  EXPECT_EQ(sha256(std::string(55, 'a')), "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
  EXPECT_EQ(sha256(std::string(56, 'a')), "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a");
  EXPECT_EQ(sha256(std::string(64, 'a')), "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
}

TEST_F(ReplaceFile, flushesTheTextBeforeTheNameAndThenTheFolder) {
  Watch seen;
  {
    Watching now(seen);
    ASSERT_EQ(replaceFile(file, "one"), "");
    ASSERT_EQ(replaceFile(file, "two"), "");
  }
  EXPECT_EQ(read(file), "two");
  const std::vector<std::string> once{"write", "flush file", "rename", "flush folder"};
  std::vector<std::string> twice = once;
  twice.insert(twice.end(), once.begin(), once.end());
  EXPECT_EQ(seen.steps, twice);
  ASSERT_EQ(seen.names.size(), 2u);
  EXPECT_NE(seen.names[0], seen.names[1]);  // not to be guessed
  EXPECT_EQ(count(), 1u);
}

TEST_F(ReplaceFile, aFolderThatIsMadeIsFlushedIntoItsOwn) {
  Watch seen;
  {
    Watching now(seen);
    ASSERT_EQ(replaceFile(directory / "a" / "b" / "file", "x"), "");
  }
  EXPECT_EQ(seen.steps, (std::vector<std::string>{"flush folder", "flush folder", "write", "flush file", "rename",
                                                  "flush folder"}));
  EXPECT_EQ(read(directory / "a" / "b" / "file"), "x");
}

TEST_F(ReplaceFile, reportsTheFailureOfEveryStep) {
  for (const char *failing : {"write", "flush file", "rename", "flush folder"}) {
    ASSERT_EQ(replaceFile(file, "old"), "");
    Watch seen;
    seen.failing = failing;
    seen.error = ENOSPC;
    {
      Watching now(seen);
      EXPECT_EQ(replaceFile(file, "new"), std::strerror(ENOSPC)) << failing;
    }
    EXPECT_EQ(read(file), std::string(failing) == "flush folder" ? "new" : "old") << failing;
    EXPECT_EQ(count(), 1u) << failing;
  }
  EXPECT_NE(replaceFile(file / "below", "x"), "");
}

TEST_F(ReplaceFile, goesOnAfterShortAndInterruptedWrites) {
  std::string text;
  for (int at = 0; at < 200; ++at) text += std::to_string(at);
  Watch seen;
  seen.most = 7;
  seen.interrupted = true;
  {
    Watching now(seen);
    ASSERT_EQ(replaceFile(file, text), "");
  }
  EXPECT_EQ(read(file), text);
}

TEST_F(ReplaceFile, whoDiesLeavesTheOldFileOrTheNewOne) {
  for (const char *dying : {"write", "flush file", "rename", "flush folder"}) {
    ASSERT_EQ(replaceFile(file, "old"), "");
    const pid_t child = fork();
    if (child == 0) {
      Watch seen;
      seen.dying = dying;
      Watching now(seen);
      replaceFile(file, "new");
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(WEXITSTATUS(status), 9);
    EXPECT_EQ(read(file), std::string(dying) == "flush folder" ? "new" : "old") << dying;
  }
  EXPECT_EQ(count(), 4u);  // three temporaries
  // A process that comes hours later takes away the old ones, of which it cannot be that somebody still writes them.
  std::vector<fs::path> left;
  for (const auto &entry : fs::directory_iterator(directory))
    if (entry.path() != file) left.push_back(entry.path());
  ASSERT_EQ(left.size(), 3u);
  age(left[0], 7);
  age(left[1], 100);
  const fs::path foreign = directory / ".weft-notes.tmp", mine = directory / "data.tmp";
  for (const fs::path &other : {foreign, mine}) {
    ASSERT_EQ(replaceFile(other, "x"), "");
    age(other, 100);
  }
  // A process looks through a folder once, and this one has: the same files in another folder.
  const fs::path moved = directory.string() + "-moved";
  fs::remove_all(moved);
  fs::create_directory(moved);
  for (const auto &entry : fs::directory_iterator(directory)) fs::rename(entry.path(), moved / entry.path().filename());
  ASSERT_EQ(replaceFile(moved / "other", "y"), "");
  EXPECT_FALSE(fs::exists(moved / left[0].filename()));
  EXPECT_FALSE(fs::exists(moved / left[1].filename()));
  EXPECT_TRUE(fs::exists(moved / left[2].filename()));
  EXPECT_TRUE(fs::exists(moved / foreign.filename()));
  EXPECT_TRUE(fs::exists(moved / mine.filename()));
  fs::remove_all(moved);
}

TEST_F(ReplaceFile, aFolderWithTheNumberOfARemovedOneIsAnother) {
  const fs::path folder = directory / "folder", stale = folder / ".weft-0123456789abcdef.tmp";
  for (int round = 0; round < 3; ++round) {  // ext4 gives the number again each time
    ASSERT_EQ(mkdir(folder.c_str(), 0700), 0);
    std::ofstream(stale) << "x";
    age(stale, 7);
    ASSERT_EQ(replaceFile(folder / "file", "y"), "");
    EXPECT_FALSE(fs::exists(stale)) << round;
    fs::remove_all(folder);
  }
}

TEST_F(ReplaceFile, threadsDoNotMixTheirText) {
  constexpr int writers = 16, rounds = 20;
  constexpr size_t size = 20000;
  std::atomic<int> left{writers};
  std::vector<std::thread> threads;
  std::vector<std::string> reasons(writers);
  ASSERT_EQ(replaceFile(file, std::string(size, 'a')), "");
  for (int at = 0; at < writers; ++at)
    threads.emplace_back([&, at] {
      for (int round = 0; round < rounds; ++round)
        reasons[at] += replaceFile(file, std::string(size, static_cast<char>('a' + at)));
      --left;
    });
  size_t mixed = 0;
  do {
    const std::string text = read(file);
    mixed += text != std::string(size, text[0]);
  } while (left > 0);
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(mixed, 0u);
  EXPECT_EQ(reasons, std::vector<std::string>(writers));
  EXPECT_EQ(count(), 1u);
}

TEST_F(ReplaceFile, followsNoLink) {
  const fs::path victim = directory / "victim";
  ASSERT_EQ(replaceFile(victim, "precious"), "");
  fs::create_symlink(victim, file);
  ASSERT_EQ(replaceFile(file, "new"), "");
  EXPECT_EQ(read(victim), "precious");
  EXPECT_EQ(read(file), "new");
  EXPECT_FALSE(fs::is_symlink(file));
}

TEST_F(Folders, areMadeForTheUserAlone) {
  const mode_t before = umask(0);
  {
    const PrivateFolder folder(directory / "a" / "b", true);
    ASSERT_TRUE(folder.usable()) << folder.refusal();
    EXPECT_EQ(folder.replace("file", "text"), "");
    std::string text, refused;
    EXPECT_TRUE(folder.read("file", text, refused));
    EXPECT_EQ(text, "text");
    EXPECT_FALSE(folder.read("other", text, refused));
    EXPECT_EQ(refused, "");
  }
  umask(before);
  EXPECT_EQ(mode(directory / "a"), 0700u);
  EXPECT_EQ(mode(directory / "a" / "b"), 0700u);
  EXPECT_EQ(mode(directory / "a" / "b" / "file"), 0600u);
  const PrivateFolder missing(directory / "c", false);
  EXPECT_FALSE(missing.usable());
  EXPECT_EQ(missing.refusal(), "");
  EXPECT_FALSE(fs::exists(directory / "c"));
}

TEST_F(Folders, thatOthersMayWriteToAreRefused) {
  const fs::path own = directory / "own", below = own / "below";
  ASSERT_TRUE(PrivateFolder(below, true).usable());
  for (unsigned bad : {0777u, 0770u, 0702u, 01777u}) {
    ASSERT_EQ(chmod(below.c_str(), bad), 0);
    const PrivateFolder folder(below, true);
    EXPECT_FALSE(folder.usable()) << std::oct << bad;
    EXPECT_NE(folder.refusal().find("chmod go-w " + below.string()), std::string::npos) << folder.refusal();
    EXPECT_EQ(folder.replace("file", "x"), folder.refusal());
  }
  for (unsigned good : {0700u, 0755u, 0750u}) {
    ASSERT_EQ(chmod(below.c_str(), good), 0);
    EXPECT_TRUE(PrivateFolder(below, true).usable()) << std::oct << good;
  }
  // Above it: only where nobody else can put another folder in its place.
  ASSERT_EQ(chmod(own.c_str(), 0777), 0);
  EXPECT_FALSE(PrivateFolder(below, true).usable());
  ASSERT_EQ(chmod(own.c_str(), 01777), 0);
  EXPECT_TRUE(PrivateFolder(below, true).usable());
}

TEST_F(Folders, filesThatOthersMayWriteToAreRefused) {
  const PrivateFolder folder(directory, false);
  ASSERT_TRUE(folder.usable()) << folder.refusal();
  std::string text, refused;
  ASSERT_EQ(folder.replace("file", "text"), "");
  for (unsigned bad : {0666u, 0620u, 0602u}) {
    ASSERT_EQ(chmod(file.c_str(), bad), 0);
    EXPECT_FALSE(folder.read("file", text, refused));
    EXPECT_NE(refused.find("chmod go-w"), std::string::npos) << refused;
  }
  ASSERT_EQ(chmod(file.c_str(), 0644), 0);
  EXPECT_TRUE(folder.read("file", text, refused));
  fs::create_symlink("file", directory / "link");
  EXPECT_FALSE(folder.read("link", text, refused));
  EXPECT_NE(refused, "");
  ASSERT_EQ(mkfifo((directory / "pipe").c_str(), 0600), 0);
  EXPECT_FALSE(folder.read("pipe", text, refused));  // and does not wait for a writer
  EXPECT_NE(refused, "");
  ASSERT_EQ(mkdir((directory / "folder").c_str(), 0700), 0);
  EXPECT_FALSE(folder.read("folder", text, refused));
  EXPECT_NE(refused, "");
}

TEST_F(Folders, linksOnTheWay) {
  ASSERT_TRUE(PrivateFolder(directory / "real" / "kernels", true).usable());
  fs::create_symlink("real", directory / "relative");
  fs::create_symlink(directory / "real", directory / "absolute");
  fs::create_symlink("loop", directory / "loop");
  fs::create_symlink("/dev/null", directory / "device");
  EXPECT_TRUE(PrivateFolder(directory / "relative" / "kernels", false).usable());
  EXPECT_TRUE(PrivateFolder(directory / "absolute" / "kernels", false).usable());
  EXPECT_TRUE(PrivateFolder(directory / "real" / ".." / "real" / "." / "kernels", false).usable());
  for (const char *bad : {"loop", "device"}) {
    const PrivateFolder folder(directory / bad, true);
    EXPECT_FALSE(folder.usable()) << bad;
    EXPECT_NE(folder.refusal(), "") << bad;
  }
  // What a link leads to is looked at as any other way.
  ASSERT_EQ(chmod((directory / "real").c_str(), 0777), 0);
  EXPECT_FALSE(PrivateFolder(directory / "absolute" / "kernels", false).usable());
}

TEST_F(Folders, ofAnotherUserAreRefused) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  constexpr uid_t other = 54321;
  const fs::path own = directory / "own", below = own / "below";
  const PrivateFolder folder(below, true);
  ASSERT_EQ(folder.replace("file", "text"), "");
  std::string text, refused;
  ASSERT_EQ(chown((below / "file").c_str(), other, other), 0);
  EXPECT_FALSE(folder.read("file", text, refused));
  EXPECT_NE(refused.find("54321"), std::string::npos) << refused;
  for (const fs::path &given : {below, own}) {
    ASSERT_EQ(chown(given.c_str(), other, other), 0);
    const PrivateFolder refusedFolder(below, true);
    EXPECT_FALSE(refusedFolder.usable());
    EXPECT_NE(refusedFolder.refusal().find(given.string() + " belongs to user 54321"), std::string::npos)
        << refusedFolder.refusal();
    ASSERT_EQ(chown(given.c_str(), 0, 0), 0);
  }
  // A link that somebody put into a shared folder, to a good one.
  ASSERT_EQ(chmod(own.c_str(), 01777), 0);
  fs::create_symlink("below", own / "link");
  EXPECT_TRUE(PrivateFolder(own / "link", true).usable());
  ASSERT_EQ(lchown((own / "link").c_str(), other, other), 0);
  EXPECT_FALSE(PrivateFolder(own / "link", true).usable());
}

TEST_F(Folders, aLockIsHeldOnceAndEndsWithItsHolder) {
  const PrivateFolder folder(directory, false);
  {
    const FileLock first(folder, "lock", FileLock::Wait::No), second(folder, "lock", FileLock::Wait::No);
    EXPECT_TRUE(first.held());
    EXPECT_FALSE(second.held());
    EXPECT_TRUE(second.possible());
  }
  EXPECT_TRUE(FileLock(folder, "lock", FileLock::Wait::Yes).held());
  fs::create_symlink("victim", directory / "planted");
  EXPECT_FALSE(FileLock(folder, "planted", FileLock::Wait::No).possible());
  EXPECT_FALSE(fs::exists(directory / "victim"));
  EXPECT_FALSE(FileLock(PrivateFolder(directory / "none", false), "lock", FileLock::Wait::No).possible());
}

TEST_F(Folders, turnsAreOfAKeyAndNotWaitedForInVain) {
  const PrivateFolder folder(directory, false);
  const std::string one = sha256("one"), two = sha256("two");
  using std::chrono::milliseconds;
  {
    const Turn first(folder, "turns", one, milliseconds(0));
    EXPECT_FALSE(first.waited());
    EXPECT_FALSE(Turn(folder, "turns", two, milliseconds(0)).waited());
    EXPECT_TRUE(
        Turn(folder, "turns", one, milliseconds(20)).waited());  // whose holder does not end: it goes on all the same
  }
  EXPECT_FALSE(Turn(folder, "turns", one, milliseconds(0)).waited());
  // A holder that dies ends its turn.
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const Turn own(folder, "turns", one, milliseconds(0));
    close(ready[1]);
    pause();
    _exit(0);
  }
  close(ready[1]);
  char none;
  ASSERT_EQ(::read(ready[0], &none, 1), 0);  // the child has it
  close(ready[0]);
  std::thread killer([&] {
    usleep(20000);
    kill(child, SIGKILL);
  });
  const Turn mine(folder, "turns", one, std::chrono::minutes(10));
  killer.join();
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(mine.waited());
}

}  // namespace
}  // namespace weft::testing
