// Object code into this process, with LLVM's JITLink.
#pragma once

#include <cstdint>
#include <string>

namespace weft::cpu {

using KernelFunction = void (*)(const int64_t *slots, int64_t begin, int64_t end, void *scratch);

/// Links `code` and gives the address of `entry`, a function that it defines itself; the code stays loaded for the life
/// of the process. Of this process it may call a short list of functions, those of math and memory: code that names
/// another one is refused. Thread-safe. Throws std::runtime_error.
KernelFunction loadObject(const std::string &code, const std::string &entry);

}  // namespace weft::cpu
