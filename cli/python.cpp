#include "cli/python.h"

#include <cstdio>
#include <stdexcept>

#include "benchmarks/peers.h"
#include "runtime/process.h"

namespace weft::cli {

int runPython(const char *script, const std::vector<std::string> &arguments) {
  Command command{{bench::pythonProgram(), "-c", script}, {}};
  command.words.insert(command.words.end(), arguments.begin(), arguments.end());
  try {
    return runProgram(command, Streams::Inherited).code;
  } catch (const std::runtime_error &error) {
    std::fprintf(stderr, "%s (WEFT_PYTHON names another)\n", error.what());
    return 127;
  }
}

}  // namespace weft::cli
