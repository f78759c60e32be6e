// Python scripts that are built into the program.
#pragma once

#include <string>
#include <vector>

namespace weft::cli {

/// Runs one in the interpreter of reports (WEFT_PYTHON), with the streams of this process. Gives its exit code; 127
/// where there is no interpreter, which is said on standard error.
int runPython(const char *script, const std::vector<std::string> &arguments);

}  // namespace weft::cli
