#include "runtime/process.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <stdexcept>
#include <thread>
#include <utility>

namespace weft {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// A file that is closed with this, unless taken. Above the standard streams: dup2 onto one of those is then always a
/// copy, which stays open when the program begins.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int opened) : number(opened < 0 ? -1 : fcntl(opened, F_DUPFD_CLOEXEC, STDERR_FILENO + 1)) {
    if (opened >= 0) close(opened);
  }
  Descriptor(Descriptor &&other) noexcept : number(std::exchange(other.number, -1)) {}
  Descriptor &operator=(Descriptor &&other) noexcept {
    std::swap(number, other.number);
    return *this;
  }
  ~Descriptor() {
    if (number >= 0) close(number);
  }
  int get() const { return number; }
  int take() { return std::exchange(number, -1); }

 private:
  int number = -1;
};

[[noreturn]] void refuse(const Command &command, int error) {
  throw std::runtime_error("cannot run " + command.words.at(0) + ": " + std::strerror(error));
}

struct Pipe {
  Descriptor ours, theirs;
};

/// Theirs to write, ours to read.
Pipe outputPipe(const Command &command) {
  std::array<int, 2> ends{-1, -1};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) refuse(command, errno);
  Pipe pipe{Descriptor(ends[0]), Descriptor(ends[1])};
  if (pipe.ours.get() < 0 || pipe.theirs.get() < 0) refuse(command, EMFILE);
  return pipe;
}

/// Theirs to read, ours to write: a socket, since writing to one without a reader can be told not to raise a signal.
Pipe inputPipe(const Command &command) {
  std::array<int, 2> ends{-1, -1};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) refuse(command, errno);
  Pipe pipe{Descriptor(ends[0]), Descriptor(ends[1])};
  if (pipe.ours.get() < 0 || pipe.theirs.get() < 0) refuse(command, EMFILE);
  return pipe;
}

/// Pointers to the texts, and the null that ends them.
std::vector<char *> pointers(std::vector<std::string> &texts) {
  std::vector<char *> all;
  for (std::string &text : texts) all.push_back(text.data());
  all.push_back(nullptr);
  return all;
}

/// Ours with those of the command, as NAME=VALUE.
std::vector<std::string> environmentOf(const Command &command) {
  std::vector<std::string> all;
  for (char **entry = environ; entry && *entry; ++entry) {
    const std::string_view text = *entry;
    if (!command.environment.count(std::string(text.substr(0, text.find('='))))) all.emplace_back(text);
  }
  for (const auto &[name, value] : command.environment) all.push_back(name + "=" + value);
  return all;
}

/// What the child reads and writes; -1: what we do.
struct ChildStreams {
  int input = -1, output = -1, errors = -1;
};

/// In the child. Between fork and exec only what is safe in a signal handler: another thread may have held a lock.
[[noreturn]] void becomeProgram(char *const *words, char *const *environment, const ChildStreams &streams, bool leader,
                                pid_t parent, int failure) {
  bool ready = true;
  if (leader) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
  }
  const std::array<std::pair<int, int>, 3> redirected{
      {{streams.input, STDIN_FILENO}, {streams.output, STDOUT_FILENO}, {streams.errors, STDERR_FILENO}}};
  for (const auto &[from, to] : redirected) ready = ready && (from < 0 || dup2(from, to) >= 0);
  // Also what the host has opened without thinking of programs it may start.
  close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
  if (ready) execvpe(words[0], words, environment);
  const int error = errno;
  [[maybe_unused]] const ssize_t told = write(failure, &error, sizeof error);
  _exit(127);
}

int pollTimeout(milliseconds time) { return static_cast<int>(std::clamp<int64_t>(time.count(), 0, INT32_MAX)); }

}  // namespace

Process::Process(const Command &command, Streams streams) : leader(streams != Streams::Inherited) {
  std::vector<std::string> words = command.words, variables = environmentOf(command);
  const std::vector<char *> argv = pointers(words), envp = pointers(variables);
  Pipe in, out;
  if (streams == Streams::Captured) {
    in.theirs = Descriptor(open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (in.theirs.get() < 0) refuse(command, errno);
  }
  if (streams == Streams::Exchanged) in = inputPipe(command);
  if (streams != Streams::Inherited) out = outputPipe(command);
  const ChildStreams given{in.theirs.get(), out.theirs.get(), streams == Streams::Captured ? out.theirs.get() : -1};
  Pipe failure = outputPipe(command);  // closed by exec: what comes through it is why that failed
  const pid_t parent = getpid();
  id = fork();
  if (id < 0) refuse(command, errno);
  if (id == 0) becomeProgram(argv.data(), envp.data(), given, leader, parent, failure.theirs.get());
  if (leader) setpgid(id, id);  // here too: whoever of both is first
  failure.theirs = {};
  int error = 0;
  ssize_t count;
  do count = read(failure.ours.get(), &error, sizeof error);
  while (count < 0 && errno == EINTR);
  if (count == sizeof error) {
    wait();
    refuse(command, error);
  }
  input = in.ours.take();
  output = out.ours.take();
}

Process::~Process() {
  end({});
  if (output >= 0) close(output);
}

bool Process::send(std::string_view text) {
  while (!text.empty()) {
    const ssize_t part = ::send(input, text.data(), text.size(), MSG_NOSIGNAL);
    if (part < 0 && errno == EINTR) continue;
    if (part <= 0) return false;
    text.remove_prefix(static_cast<size_t>(part));
  }
  return true;
}

Process::Received Process::receive(std::string &text, milliseconds patience) {
  pollfd ready{output, POLLIN, 0};
  if (poll(&ready, 1, pollTimeout(patience)) <= 0) return Received::Nothing;
  std::array<char, 4096> some;
  const ssize_t count = read(output, some.data(), some.size());
  if (count < 0 && errno == EINTR) return Received::Nothing;
  if (count <= 0) return Received::End;
  text.append(some.data(), static_cast<size_t>(count));
  return Received::Some;
}

int Process::code() const { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

bool Process::ended() {
  siginfo_t found{};
  // Left waitable: until wait() its number, which is its group's too, is given to no other process.
  return over || waitid(P_PID, static_cast<id_t>(id), &found, WEXITED | WNOHANG | WNOWAIT) != 0 || found.si_pid == id;
}

int Process::wait() {
  while (!over) {
    const pid_t found = waitpid(id, &status, 0);
    if (found < 0 && errno == EINTR) continue;
    if (found < 0) status = 127 << 8;  // where the host ignores SIGCHLD the code is lost
    over = true;
  }
  return code();
}

int Process::end(milliseconds grace) {
  if (input >= 0) close(std::exchange(input, -1));
  const auto start = Clock::now();
  while (!ended() && Clock::now() - start < grace) std::this_thread::sleep_for(milliseconds(5));
  if (!over) kill(leader ? -id : id, SIGKILL);
  return wait();
}

Finished runProgram(const Command &command, Streams streams, milliseconds limit) {
  Process process(command, streams);
  Finished result;
  const auto start = Clock::now();
  auto late = [&] { return limit != milliseconds::max() && Clock::now() - start >= limit; };
  // What it started may hold the output open for longer than it lives itself.
  auto received = streams == Streams::Captured ? Process::Received::Nothing : Process::Received::End;
  while (received != Process::Received::End && !late()) {
    received = process.receive(result.output, milliseconds(20));
    if (received != Process::Received::Nothing || !process.ended()) continue;
    while (process.receive(result.output, {}) == Process::Received::Some) {
    }
    break;
  }
  if (limit != milliseconds::max()) {
    while (!process.ended() && !late()) std::this_thread::sleep_for(milliseconds(2));
    result.inTime = process.ended();
    if (!result.inTime) {
      result.code = process.end({});
      return result;
    }
  }
  result.code = process.wait();
  return result;
}

}  // namespace weft
