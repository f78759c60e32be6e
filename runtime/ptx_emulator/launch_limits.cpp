// What a device refuses before the first instruction runs: a target it does not know, and too large launches.
#include <stdexcept>

#include "runtime/ptx_emulator/emulator.h"
#include "runtime/ptx_emulator/program.h"

namespace weft::ptx {
namespace {

/// PTX runs on its own architecture and later ones; with the suffix a on its own only, with f on those of its family
/// (PTX ISA, ".target").
bool runsOn(const std::string &target, int capability) {
  size_t end = 3;
  int own = 0;
  for (; end < target.size() && target[end] >= '0' && target[end] <= '9' && end < 6; ++end)
    own = 10 * own + (target[end] - '0');
  if (target.rfind("sm_", 0) != 0 || !own) return false;
  const std::string suffix = target.substr(end);
  if (suffix.empty()) return own <= capability;
  if (suffix == "a") return own == capability;
  return suffix == "f" && own <= capability && own / 10 == capability / 10;
}

}  // namespace

void checkLaunch(const std::string &target, const Kernel &kernel, const Launch &launch) {
  const std::string device = "sm_" + std::to_string(launch.capability);
  auto refuse = [&](const std::string &what) { throw std::runtime_error("ptx emulator: " + kernel.name + " " + what); };
  auto limit = [&](int64_t got, int64_t most, const std::string &what) {
    if (got > most)
      refuse("wants " + std::to_string(got) + " " + what + ", " + device + " has " + std::to_string(most));
  };
  if (!runsOn(target, launch.capability))
    refuse("is for " + (target.empty() ? "no target" : target) + ", which does not run on " + device);
  if (kernel.needs == Instruction::Needs::Sm90a && target != "sm_90a")
    refuse("has instructions of sm_90a alone, and is for " + target);
  if (kernel.needs >= Instruction::Needs::Sm90 && launch.capability < 90)
    refuse("has instructions of sm_90, which does not run on " + device);
  if (kernel.needs == Instruction::Needs::Sm89 && launch.capability < 89)
    refuse("has instructions of sm_89, which does not run on " + device);
  const DeviceLimits limits = limitsOfArchitecture(launch.capability / 10, launch.capability % 10);
  if (launch.threads < 1 || launch.blocks < 0 || launch.sharedBytes < 0)
    refuse("is launched with a negative or empty block");
  if (launch.columns < 0 || (launch.columns && launch.blocks % launch.columns))
    refuse("is launched with rows of " + std::to_string(launch.columns) + " blocks, " + std::to_string(launch.blocks) +
           " in all");
  limit(launch.threads, limits.maxThreadsPerBlock, "threads a block");
  limit(launch.blocks, limits.maxGridX, "blocks");
  limit(launch.sharedBytes, limits.sharedBytesPerBlock, "bytes of shared memory a block");
  limit(kernel.sharedBytes + launch.sharedBytes, limits.sharedBytesPerBlock,
        "bytes of static and dynamic shared memory a block");
  limit(kernel.maxRegisters * ((launch.threads + 31) / 32 * 32), limits.registersPerBlock, "registers a block");
  if (kernel.threads && kernel.threads != launch.threads)
    refuse("wants blocks of " + std::to_string(kernel.threads) + " threads, got " + std::to_string(launch.threads));
  if (kernel.maxThreads && launch.threads > kernel.maxThreads)
    refuse("wants blocks of at most " + std::to_string(kernel.maxThreads) + " threads, got " +
           std::to_string(launch.threads));
  if (static_cast<int64_t>(launch.parameters.size()) < kernel.parameterBytes)
    refuse("wants " + std::to_string(kernel.parameterBytes) + " bytes of parameters, got " +
           std::to_string(launch.parameters.size()));
}

}  // namespace weft::ptx
