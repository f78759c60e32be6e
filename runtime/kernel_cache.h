// Compiled kernels: in memory while the process lives, on disk between processes.
//
// What is on disk is machine code that is run. It is taken from a folder that nobody but the user can have written to,
// else not at all (see private_folder.h), and only where its digest is right (see kernel_file.h). Users who put a file
// with a right digest into their own cache are trusted with it, as with any program of theirs.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "compiler/compiler.h"
#include "runtime/device.h"

namespace weft {

/// A kernel ready to run on a device. Immutable and shared between threads.
class LoadedKernel {
 public:
  explicit LoadedKernel(KernelImage image) : kernelImage(std::move(image)) {}
  virtual ~LoadedKernel() = default;

  /// Its code is gone: the device has it.
  const KernelImage &image() const { return kernelImage; }

  /// Runs `programs` programs of the grid. `arguments`: image().maps, encoded (see tensor_map.h), then a value for each
  /// entry of image().slots. Blocks until all are done, but on a GPU, where it only launches. Throws
  /// std::runtime_error.
  virtual void run(const int64_t *arguments, int64_t programs, const LaunchContext &context) const = 0;

 private:
  KernelImage kernelImage;
};

/// Runs work(worker) once for each worker 0 .. threads - 1, in parallel, and waits for all.
using Executor = void (*)(int threads, const std::function<void(int worker)> &work);
/// From now on CPU kernels run on the caller's threads (torch's, say) instead of the runtime's own pool:
/// two pools on the same cores would fight for them. Call before the first kernel runs.
void setExecutor(Executor executor);

/// The kernel for `request` on `device` (the request's stage is ignored; its target is the device's own where it
/// says "host"). Compiles at most once a process and, with a cache directory, once a machine: of threads that ask at
/// the same time one compiles, and the others wait for what it gets. Thread-safe. Throws std::runtime_error with the
/// compiler's words; the next call tries again.
std::shared_ptr<const LoadedKernel> loadKernel(const CompileRequest &request, const Device &device = {});

/// How many kernels this process has compiled: those that it took from memory or from disk are not among them.
int64_t kernelsCompiled();

/// Where kernels are kept: WEFT_CACHE_DIR, else $XDG_CACHE_HOME/weft, else ~/.cache/weft. Empty where the user has no
/// home: then nothing is kept.
std::string cacheDirectory();

}  // namespace weft
