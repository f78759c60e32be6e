#include "runtime/kernel_cache.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <future>
#include <map>
#include <mutex>

#include "runtime/cache_folder.h"
#include "runtime/cpu/thread_pool.h"
#include "runtime/device_backend.h"
#include "runtime/environment.h"
#include "runtime/file_lock.h"
#include "runtime/kernel_file.h"
#include "runtime/log.h"
#include "runtime/sha256.h"

namespace weft {
namespace {

/// Everything that can change the code, as text.
std::string keyOf(const CompileRequest &request) {
  static const std::string host = hostIdentity();
  std::string key = std::string(buildIdentity()) + '\n' + (isGpu(request.target) ? "" : host) + '\n' + request.target +
                    ' ' + describe(request.schedule, request.target) + '\n' + request.kernel +
                    (request.paged ? " paged" : "") + (request.anyRows ? " any rows" : "") + '\n' + name(request.type) +
                    '\n';
  for (const auto &[dim, size] : request.dims) key += dim + '=' + std::to_string(size) + ' ';
  return key + '\n' + request.variant->source();
}

std::atomic<int64_t> compiled{0};
/// With another process that compiles the same kernel: longer than any takes.
constexpr auto patience = std::chrono::seconds(60);

/// Failure is logged once, not fatal.
void keep(const PrivateFolder &folder, const std::string &file, const std::string &text) {
  static std::once_flag warned;
  const std::string reason = folder.replace(file, text);
  if (reason.empty()) return;
  std::call_once(warned, [&] {
    log().warn("kernels cannot be kept in {}: {}; they are compiled anew in each process", cacheDirectory(), reason);
  });
}

std::shared_ptr<const LoadedKernel> load(KernelImage image, const Device &device) {
  const std::string code = std::move(image.code);
  image.code.clear();
  return backendOf(device).load(std::move(image), code, device.index);
}

/// What an earlier process has kept, where it is whole and the device takes it; else null.
std::shared_ptr<const LoadedKernel> loadKept(const PrivateFolder &folder, const std::string &file,
                                             const CompileRequest &request, const std::string &key,
                                             const Device &device) {
  std::string text, wrong;
  const bool found = folder.read(file, text, wrong);
  if (!found && wrong.empty()) return nullptr;
  try {
    if (found) return load(parseKernelFile(text, request, key), device);
  } catch (const std::exception &error) {
    wrong = error.what();
  }
  log().warn("ignoring {}/kernels/{}: {}; it is rebuilt", cacheDirectory(), file, wrong);
  return nullptr;
}

std::shared_ptr<const LoadedKernel> obtain(const CompileRequest &request, const std::string &key,
                                           const Device &device) {
  if (const std::string why = backendOf(device).refusal(request.target); !why.empty()) throw std::runtime_error(why);
  const PrivateFolder folder = cacheFolder("kernels", true);
  const std::string digest = sha256(key), file = digest + ".weftkernel";
  if (auto kept = loadKept(folder, file, request, key, device)) return kept;
  // Of processes that start together one compiles; the others find what it kept, or lose patience and compile as well.
  const Turn turn(folder, "turns", digest, patience);
  if (turn.waited())
    if (auto kept = loadKept(folder, file, request, key, device)) return kept;
  CompileRequest own = request;
  own.stage = Stage::Object;
  if (own.dumpDirectory.empty()) own.dumpDirectory = environment::dumpDirectory();
  CompileResult result = compile(own);
  if (!result.error.empty()) throw std::runtime_error(result.error);
  ++compiled;
  log().debug("compiled {}.{}", request.variant->name(), request.kernel);
  if (folder.usable()) keep(folder, file, printKernelFile(result.image, key));
  return load(std::move(result.image), device);
}

}  // namespace

void setExecutor(Executor executor) { cpu::useExecutor(executor); }

int64_t kernelsCompiled() { return compiled; }

std::string cacheDirectory() { return environment::cacheDirectory(); }

std::shared_ptr<const LoadedKernel> loadKernel(const CompileRequest &request, const Device &device) {
  using Kernel = std::shared_ptr<const LoadedKernel>;
  static std::mutex mutex;
  static std::map<std::string, Kernel> loaded;
  // Kernels that a thread is making. Of this process: the threads of its parent make none for a child made by fork.
  static std::map<std::pair<pid_t, std::string>, std::shared_future<Kernel>> making;
  CompileRequest own = request;
  if (own.target == "host") own.target = targetOf(device);
  own.schedule = scheduleOf(request.schedule, request.kernel);
  const std::string key = keyOf(own), place = name(device) + "\n" + key;
  std::promise<Kernel> made;
  const std::pair<pid_t, std::string> ours{getpid(), place};
  {
    std::unique_lock lock(mutex);
    if (auto found = loaded.find(place); found != loaded.end()) return found->second;
    if (auto found = making.find(ours); found != making.end()) {
      const std::shared_future<Kernel> others = found->second;
      lock.unlock();
      return others.get();  // or throws what that thread did
    }
    making.emplace(ours, made.get_future().share());
  }
  // Without the lock: other kernels are found, and made, meanwhile.
  Kernel kernel;
  std::exception_ptr failure;
  try {
    kernel = obtain(own, key, device);
  } catch (...) {
    failure = std::current_exception();
  }
  std::lock_guard lock(mutex);
  making.erase(ours);  // after a failure the next call tries again
  if (failure) {
    made.set_exception(failure);
    std::rethrow_exception(failure);
  }
  loaded.emplace(place, kernel);
  made.set_value(kernel);
  return kernel;
}

}  // namespace weft
