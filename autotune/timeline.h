// Predicts how long a kernel takes on a GPU that need not be there: its instructions, in the order the machine has
// them, over the pipes of an SM, its blocks over the chip. See docs/timeline.md for what is modelled and how far it is
// off. What it gives is predicted, not measured: whoever prints it says so.
#pragma once

#include <string>
#include <vector>

#include "compiler/kernel_image.h"

namespace weft::timeline {

struct Chip;
/// The chip of that name: "h200". Throws std::runtime_error that lists those known.
const Chip &chip(const std::string &name);
/// The chip of a GPU that the driver names so ("NVIDIA H200"), or nullptr.
const Chip *chipOfDriver(const std::string &name);
/// "sm_90".
std::string architecture(const Chip &chip);
/// Its full name: "H200 SXM".
std::string product(const Chip &chip);
/// TFLOP/s of dense products of 16 bits, else of tf32, by the data sheet.
double peakTeraflops(const Chip &chip, bool halves);

/// Turns of the hot loop that a block makes.
struct Turns {
  int full = 0, partial = 0;  ///< over tiles that are kept whole, that are masked
};

/// What one launch of a kernel does.
struct Load {
  std::vector<Turns> blocks;  ///< in the order in which they are launched, or taken as programs
  double bytes = 0;           ///< of the tensors it reads and writes: each once from or to memory
  int otherTurns = 1;         ///< of loops of a kernel that multiplies nothing
};

/// A kernel's machine code and what it asks of an SM.
struct Kernel {
  std::string name, code;
  bool sass = true;   ///< else PTX
  int registers = 0;  ///< of a thread
  int threads = 0;    ///< of a block
  int64_t sharedBytes = 0, spillBytes = 0;
  int copiers = 0;       ///< of the threads: that copy for the others and multiply nothing; blocks take programs then
  int64_t boxBytes = 0;  ///< that one bulk copy (TMA) of a loop brings
};
/// The image assembled for an architecture ("sm_90", "sm_90a") and disassembled, or its PTX where ptxas or a
/// disassembler is missing. Throws std::runtime_error where ptxas fails.
Kernel kernelOf(const KernelImage &image, const std::string &architecture);

/// Share of a pipe's cycles that it is busy, over the hot loop, and over the whole kernel with waves and tail.
struct PipeShare {
  std::string name;
  double loop = 0, kernel = 0;
};

struct Timeline {
  std::string kernel, product;
  bool sass = true;
  double seconds = 0;
  double clock = 0, boostClock = 0;  ///< GHz: under the kernel's load, and by the data sheet
  double teraflops = 0;              ///< of the products that are executed, those of masked pairs with them
  std::string bound;                 ///< in words
  std::vector<PipeShare> pipes;
  double issue = 0, issueKernel = 0;                     ///< share of issue slots
  int registers = 0;                                     ///< of a thread
  int warps = 0, warpsPerBlock = 0;                      ///< resident on an SM, of a block
  int blocksPerUnit = 0;                                 ///< an SM has room for
  std::string limit;                                     ///< what keeps more blocks off the SM
  double fullCycles = 0, partialCycles = 0;              ///< of a turn of all resident blocks
  double onceCycles = 0;                                 ///< of a block that takes programs, before the first
  double beforeCycles = 0, afterCycles = 0;              ///< of a block or program, outside its loop
  double fullInstructions = 0, partialInstructions = 0;  ///< of a warp
  size_t blocks = 0, turns = 0, partialTurns = 0;
  double waves = 0;
  double loopSeconds = 0, l2Seconds = 0, memorySeconds = 0;  ///< each bound by itself
  std::vector<std::pair<std::string, double>> waits;  ///< what warps wait for, share of their time, longest first
  std::vector<std::string> notes;                     ///< what was not modelled
};

/// Whatever the code, gives figures: where it has no loop of tiles, those of one way through it.
Timeline predict(const Kernel &kernel, const Load &load, const Chip &chip);

/// A page for people.
std::string page(const Timeline &timeline);

}  // namespace weft::timeline
