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

/// Code for one architecture alone is assembled for it.
static std::string assemblerTarget(const std::string &ptx, const Chip &chip) {
  const std::string own = architecture(chip) + "a";
  return ptx.find(".target " + own) == std::string::npos ? architecture(chip) : own;
}

Kernel kernelOf(const KernelImage &image, const Chip &chip) {
  // Without ptxas the registers are not known: as many as there may be.
  Kernel kernel{image.entry, image.code, false, mostRegisters, image.threads, image.sharedBytes, 0};
  if (findPtxas().empty()) return kernel;
  const Assembled assembled = assemble(image.code, assemblerTarget(image.code, chip));
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
