#include <stdexcept>

#include "autotune/timeline.h"
#include "autotune/timeline/chip.h"
#include "runtime/ptxas.h"

namespace weft::timeline {

const Chip &chip(const std::string &name) {
  if (const Chip *found = findChip(name)) return *found;
  throw std::runtime_error("expected a GPU that there is a model of (" + chipNames() + "), got '" + name + "'");
}
std::string architecture(const Chip &chip) { return "sm_" + std::to_string(chip.capability); }
std::string product(const Chip &chip) { return chip.product; }
double peakTeraflops(const Chip &chip, bool halves) {
  return 1e-3 * chip.units * chip.clock * (halves ? chip.bf16 : chip.tf32);
}

Kernel kernelOf(const KernelImage &image, const std::string &architecture) {
  // Without ptxas the registers are not known: as many as there may be.
  Kernel kernel{image.entry, image.code, false, mostRegisters, image.threads, image.sharedBytes, 0, 0, 0};
  // Blocks take programs where a warpgroup of their own copies (cta.roles).
  if (image.residents) kernel.copiers = producerThreads;
  const int streamed = image.grid == Grid::QueryTile ? image.tileK : image.tileQ;
  kernel.boxBytes = streamed * TensorMapSlot::boxBytes;
  if (findPtxas().empty()) return kernel;
  const Assembled assembled = assemble(image.code, architecture);
  kernel.registers = assembled.registers;
  kernel.spillBytes = assembled.spillBytes;
  try {
    kernel.code = disassemble(assembled.cubin);
    kernel.sass = true;
  } catch (const std::runtime_error &) {
    // No disassembler: the PTX stays.
  }
  return kernel;
}

}  // namespace weft::timeline
