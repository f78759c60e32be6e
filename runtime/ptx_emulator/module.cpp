// A module's kernels, launched: blocks on several threads of the machine.
#include <mutex>
#include <stdexcept>
#include <thread>

#include "runtime/ptx_emulator/machine.h"

namespace weft::ptx {

struct Module::Kernels {
  Program program;
};

Module::Module(const std::string &text) : kernels(std::make_unique<Kernels>()) { kernels->program = parse(text); }
Module::~Module() = default;

Report Module::run(const std::string &name, const Launch &launch, int threads) const {
  auto found = kernels->program.kernels.find(name);
  if (found == kernels->program.kernels.end()) throw std::runtime_error("ptx emulator: no kernel named " + name);
  const Kernel &kernel = found->second;
  checkLaunch(kernels->program.target, kernel, launch);
  Progress progress{launch.steps, GlobalRaces(launch.blocks > 1 ? launch.memory : std::vector<MemoryRange>())};
  std::atomic<int64_t> next{0};
  std::mutex mutex;
  Report total;
  std::exception_ptr error;
  auto work = [&] {
    Report own;
    SharedMemory shared;
    try {
      for (int64_t index = next++; index < launch.blocks; index = next++)
        Block(kernel, launch, index, own, shared, progress).run();
    } catch (...) {
      next = launch.blocks;
      std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
    std::lock_guard lock(mutex);
    total += own;
  };
  std::vector<std::thread> helpers;
  for (int at = 1; at < threads && at < launch.blocks; ++at) helpers.emplace_back(work);
  work();
  for (std::thread &helper : helpers) helper.join();
  if (error) std::rethrow_exception(error);
  return total;
}

}  // namespace weft::ptx
