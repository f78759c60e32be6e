// Programs run in processes of their own: without a shell, and with no open file of ours but the streams they are
// given.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace weft {

struct Command {
  std::vector<std::string> words;  ///< the program, looked for on the path where its name has no slash; its arguments
  std::map<std::string, std::string> environment;  ///< beside ours, in the place of ours
};

/// What a program reads and writes. Where that is not what we do, it leads a process group of its own: Ctrl-C is for us
/// then, it is ended with all that it started, and it does not outlive the thread that started it.
enum class Streams {
  Inherited,  ///< the terminal or files that we read and write
  Captured,   ///< no input; output and errors together are received
  Exchanged,  ///< input is sent, output received; errors go where ours go
};

/// A program at work. One thread at a time.
class Process {
 public:
  /// Throws std::runtime_error with the reason where the program cannot be run.
  Process(const Command &command, Streams streams);
  /// Ends it at once.
  ~Process();
  Process(const Process &) = delete;
  Process &operator=(const Process &) = delete;

  /// Exchanged: writes all of `text`, waiting for a reader; false where none is left.
  bool send(std::string_view text);
  enum class Received { Some, Nothing, End };
  /// Appends what it wrote to `text`; waits for it no longer than `patience`.
  Received receive(std::string &text, std::chrono::milliseconds patience);
  /// Whether it has ended by itself. Does not wait.
  bool ended();
  /// Waits for its end. Gives the exit code, or 128 and the number of the signal that ended it, as a shell does;
  /// 127 where our process lets the system forget it (SIGCHLD ignored).
  int wait();
  /// Closes its input; after `grace`, or where it ends before that, ends all that it started where it leads a group.
  /// Gives what wait() does.
  int end(std::chrono::milliseconds grace);

 private:
  pid_t id = -1;
  bool leader = false, over = false;
  int status = 0;
  int input = -1, output = -1;  ///< our ends
  int code() const;
};

struct Finished {
  int code = 0;        ///< see Process::wait
  std::string output;  ///< of captured streams
  bool inTime = true;  ///< false: ended at the limit
};

/// Runs a program to its end, or to `limit`. Streams::Inherited or Captured. Throws as Process does.
Finished runProgram(const Command &command, Streams streams,
                    std::chrono::milliseconds limit = std::chrono::milliseconds::max());

}  // namespace weft
