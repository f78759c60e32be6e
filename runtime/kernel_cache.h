// Compiled kernels: in memory while the process lives, on disk between processes.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "compiler/compiler.h"

namespace weft {

/// A kernel ready to run on this machine's CPU. Immutable and shared between threads.
class LoadedKernel {
 public:
  LoadedKernel(KernelImage image, void (*function)(const int64_t *, int64_t, int64_t, void *))
      : kernelImage(std::move(image)), function(function) {}

  const KernelImage &image() const { return kernelImage; }

  /// Runs `programs` programs of the grid on at most `threads` threads. `slots` holds one value an
  /// entry of image().slots. Blocks until all are done.
  void run(const int64_t *slots, int64_t programs, int threads) const;

 private:
  KernelImage kernelImage;
  void (*function)(const int64_t *, int64_t, int64_t, void *);
};

/// Runs work(worker) once for each worker 0 .. threads - 1, in parallel, and waits for all.
using Executor = void (*)(int threads, const std::function<void(int worker)> &work);
/// From now on kernels run on the caller's threads (torch's, say) instead of the runtime's own pool:
/// two pools on the same cores would fight for them. Call before the first kernel runs.
void setExecutor(Executor executor);

/// The kernel for `request` (its stage is ignored). Compiles at most once a process and, with a
/// cache directory, once a machine. Thread-safe. Throws std::runtime_error with the compiler's words.
std::shared_ptr<const LoadedKernel> loadKernel(const CompileRequest &request);

/// Where kernels are kept: WEFT_CACHE_DIR, else $XDG_CACHE_HOME/weft, else ~/.cache/weft.
std::string cacheDirectory();

}  // namespace weft
