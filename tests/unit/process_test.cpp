// Programs in processes of their own: streams, codes, limits, what they start, what they inherit.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <stdexcept>
#include <thread>

#include "runtime/process.h"

namespace weft::testing {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

Command shell(const std::string &script) { return {{"sh", "-c", script}, {}}; }

/// Whether a process leaves within a few seconds: one that has been ended may first be adopted and looked at.
bool leaves(pid_t id) {
  for (int tries = 0; tries < 500; ++tries) {
    if (kill(id, 0) != 0 && errno == ESRCH) return true;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

TEST(Processes, outputAndErrorsAreCapturedInTheirOrder) {
  const Finished finished = runProgram(shell("echo one; echo two >&2; echo three"), Streams::Captured);
  EXPECT_EQ(finished.code, 0);
  EXPECT_EQ(finished.output, "one\ntwo\nthree\n");
  EXPECT_TRUE(finished.inTime);
}

TEST(Processes, outputLongerThanAPipeHolds) {
  const Finished finished = runProgram(shell("head -c 3000000 /dev/zero; echo end"), Streams::Captured);
  EXPECT_EQ(finished.output.size(), 3000004u);
  EXPECT_EQ(finished.output.substr(3000000), "end\n");
}

TEST(Processes, thereIsNoInputToCapturedPrograms) {
  EXPECT_EQ(runProgram({{"cat"}, {}}, Streams::Captured, std::chrono::seconds(60)).output, "");
}

TEST(Processes, wordsReachTheProgramAsTheyAre) {
  const Finished finished = runProgram({{"printf", "%s|", "a b", "", "$HOME;'\"", "*"}, {}}, Streams::Captured);
  EXPECT_EQ(finished.output, "a b||$HOME;'\"|*|");
}

TEST(Processes, codesAreThoseOfAShell) {
  EXPECT_EQ(runProgram(shell("exit 3"), Streams::Captured).code, 3);
  EXPECT_EQ(runProgram(shell("kill -TERM $$"), Streams::Captured).code, 128 + SIGTERM);
  EXPECT_EQ(runProgram(shell("exit 4"), Streams::Inherited).code, 4);
}

TEST(Processes, whatCannotBeRunSaysWhy) {
  for (Streams streams : {Streams::Inherited, Streams::Captured, Streams::Exchanged}) try {
      Process process({{"/nonexistent/program"}, {}}, streams);
      FAIL() << "it runs";
    } catch (const std::runtime_error &error) {
      EXPECT_STREQ(error.what(), "cannot run /nonexistent/program: No such file or directory");
    }
}

TEST(Processes, variablesAreBesideOurs) {
  setenv("WEFT_PROCESS_TEST", "ours", 1);
  Command command = shell("echo $WEFT_PROCESS_TEST $PATH");
  const std::string ours = runProgram(command, Streams::Captured).output;
  EXPECT_EQ(ours.rfind("ours /", 0), 0u) << ours;
  command.environment["WEFT_PROCESS_TEST"] = "its own";
  EXPECT_EQ(runProgram(command, Streams::Captured).output, "its own" + ours.substr(4));
  unsetenv("WEFT_PROCESS_TEST");
}

TEST(Processes, noOpenFileOfOursIsInherited) {
  const Process other({{"cat"}, {}}, Streams::Exchanged);
  const int kept = fcntl(STDIN_FILENO, F_DUPFD, 200);  // as a host opens files that thinks of no programs
  ASSERT_GE(kept, 200);
  // 3 is the folder that the shell looks through.
  EXPECT_EQ(runProgram(shell("cd /proc/$$/fd; echo *"), Streams::Captured).output, "0 1 2 3\n");
  close(kept);
}

TEST(Processes, limitsEndAllThatWasStarted) {
  const auto start = Clock::now();
  const Finished finished = runProgram(shell("sleep 1000 & echo $!; sleep 1000"), Streams::Captured, milliseconds(300));
  EXPECT_FALSE(finished.inTime);
  EXPECT_EQ(finished.code, 128 + SIGKILL);
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(20));
  EXPECT_TRUE(leaves(static_cast<pid_t>(std::stoi(finished.output)))) << finished.output;
  EXPECT_FALSE(runProgram({{"sleep", "1000"}, {}}, Streams::Inherited, milliseconds(100)).inTime);
}

TEST(Processes, whoHoldsTheOutputIsNotWaitedFor) {
  const auto start = Clock::now();
  const Finished finished = runProgram(shell("sleep 30 & echo done"), Streams::Captured);
  EXPECT_EQ(finished.output, "done\n");
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(20));
}

TEST(Processes, linesAreExchanged) {
  Process process({{"cat"}, {}}, Streams::Exchanged);
  std::string text;
  EXPECT_EQ(process.receive(text, milliseconds(10)), Process::Received::Nothing);
  ASSERT_TRUE(process.send("one\n"));
  EXPECT_EQ(process.receive(text, std::chrono::seconds(60)), Process::Received::Some);
  EXPECT_EQ(text, "one\n");
  EXPECT_FALSE(process.ended());
  EXPECT_EQ(process.end(std::chrono::seconds(60)), 0);  // without an input it ends by itself
  EXPECT_TRUE(process.ended());
  EXPECT_EQ(process.receive(text, {}), Process::Received::End);
}

TEST(Processes, sendingToWhoHasLeftIsNoSignal) {
  Process process(shell("exec 0<&-; echo closed; sleep 1000"), Streams::Exchanged);
  std::string text;
  ASSERT_EQ(process.receive(text, std::chrono::seconds(60)), Process::Received::Some);
  EXPECT_FALSE(process.send("x") && process.send("y"));
  EXPECT_EQ(process.end({}), 128 + SIGKILL);
}

TEST(Processes, oneThatIsLetGoIsEnded) {
  std::string text;
  {
    Process process(shell("echo $$; sleep 1000"), Streams::Exchanged);
    ASSERT_EQ(process.receive(text, std::chrono::seconds(60)), Process::Received::Some);
  }
  EXPECT_TRUE(leaves(static_cast<pid_t>(std::stoi(text)))) << text;
}

}  // namespace
}  // namespace weft::testing
