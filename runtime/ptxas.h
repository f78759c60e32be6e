// NVIDIA's assembler, where it is installed: PTX to machine code, and what it cost.
#pragma once

#include <cstdint>
#include <string>

namespace weft {

struct Assembled {
  std::string cubin;
  int registers = 0;       ///< of a thread
  int64_t spillBytes = 0;  ///< stored to and loaded from local memory
  std::string log;
};

/// WEFT_PTXAS, else ptxas on the path; empty where there is none.
std::string findPtxas();
/// Throws std::runtime_error with ptxas's words, the command, and a file that keeps the PTX.
Assembled assemble(const std::string &ptx, const std::string &target);
/// What to load on a GPU whose own architecture is `target` ("sm_90", whatever the PTX was generated for): a cubin kept
/// from an earlier process, else made by ptxas and kept; where there is no ptxas, or it fails, the PTX itself, which
/// the driver compiles (and caches by itself).
std::string deviceCode(const std::string &ptx, const std::string &target);
/// The machine instructions of a cubin, by WEFT_NVDISASM, else nvdisasm or cuobjdump on the path or beside ptxas.
/// Throws std::runtime_error where none is found.
std::string disassemble(const std::string &cubin);

}  // namespace weft
