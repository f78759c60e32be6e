// Every environment variable Weft reads, in one place.
#pragma once

#include <cstdint>
#include <string>

namespace weft::environment {

std::string cacheDirectory();  ///< WEFT_CACHE_DIR, XDG_CACHE_HOME, HOME, the user's home; empty: none
std::string dumpDirectory();   ///< WEFT_DUMP; empty: no dumps
std::string logLevel();        ///< WEFT_LOG: error warn info debug trace; default warn
int threads();                 ///< WEFT_THREADS; 0: the caller decides
std::string cpu();             ///< WEFT_CPU: a CPU name LLVM knows; default host
/// WEFT_CPU_EMULATOR: a program that runs kernels of another architecture (see cpu/emulated_kernel.h); empty: none
std::string cpuEmulator();
/// WEFT_GPU: "sm_90a" for Hopper's own instructions on a GPU that has them; default: code for every GPU
std::string gpu();
/// From now on. Not beside other threads that ask.
void setGpu(const std::string &code);
std::string device();  ///< WEFT_DEVICE; default cpu
bool synchronous();    ///< WEFT_CHECK: wait for GPU kernels and check what they noted
/// WEFT_EMULATOR_SEED: how the PTX emulator uses the freedom of a GPU; 0: not at all; default 1
uint64_t emulatorSeed();
int64_t emulatorSteps();  ///< WEFT_EMULATOR_STEPS: warp instructions of a launch, at most; 0: the emulator decides
bool tune();              ///< WEFT_TUNE: tune a call before its first run
std::string python();     ///< WEFT_PYTHON: the interpreter for peers and reports; empty: the configured one
std::string path();       ///< PATH
std::string ptxas();      ///< WEFT_PTXAS: the assembler; empty: look on the path
std::string nvdisasm();   ///< WEFT_NVDISASM: the disassembler; empty: look on the path
std::string data();       ///< WEFT_DATA; empty: not set

}  // namespace weft::environment
