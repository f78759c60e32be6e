// One call of a variant: its tensors checked and prepared, its dims known, its kernels' arguments.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include <torch/torch.h>

#include "compiler/compiler.h"
#include "ops/arguments.h"
#include "runtime/kernel_cache.h"
#include "runtime/schedule_cache.h"

namespace weft::ops {

/// Kernels of one variant for one element type, head dims and schedule; arguments resolved to positions.
class KernelSet {
 public:
  KernelSet(std::shared_ptr<const Variant> variant, ElementType type, std::map<std::string, int64_t> headDims,
            Device device, const Schedule &schedule, bool paged = false);

  struct Argument {
    ArgumentSlot::Kind kind;
    int position;  ///< of the dim or tensor
    int index;
  };
  struct Kernel {
    std::shared_ptr<const LoadedKernel> code;
    std::vector<Argument> arguments;
  };
  /// Compiled on first use. Thread-safe.
  const Kernel &kernel(const char *name);

  const std::shared_ptr<const Variant> variant;
  const ElementType type;
  const std::map<std::string, int64_t> headDims;
  const Device device;
  std::vector<std::string> dimNames;
  std::vector<std::string> tensorNames;
  const Schedule schedule;
  const bool paged;  ///< keys lie in pages (see ops/decode.h)

  int dimPosition(const std::string &name) const;
  int tensorPosition(const std::string &name) const;

 private:
  std::mutex mutex;
  std::unordered_map<std::string, Kernel> kernels;
};

/// The kernels for a call, in tuned schedules where the cache has them and in default ones else; the look-up of the
/// hot path.
KernelSet &kernelSet(const std::string &variant, const std::vector<std::string> &names, at::TensorList tensors,
                     bool backward);

/// What runs well on a device without tuning, and fits it. Found once for each variant, type and head dims.
Schedule untunedSchedule(const Variant &variant, ElementType type, const std::map<std::string, int64_t> &headDims,
                         const Device &device, bool backward);

/// Under what a call's schedule is tuned. Throws c10::Error where the tensors do not name every dim.
TuningKey tuningKey(const Variant &variant, const std::vector<std::string> &names, at::TensorList tensors,
                    bool backward);
/// Calls from now on look schedules up anew.
void forgetSchedules();
/// With WEFT_TUNE=1: called once for each key that has no tuned schedule, before its first kernel is compiled.
using Tuner = void (*)(const std::string &variant, const std::vector<std::string> &names, at::TensorList tensors,
                       bool backward);
void setTuner(Tuner tuner);

class Binding {
 public:
  /// Checks every tensor against the signature. Throws c10::Error.
  Binding(KernelSet &set, const std::vector<std::string> &names, at::TensorList tensors);

  int64_t dim(const std::string &name) const;
  int64_t queryTiles() const { return (T + set.schedule.tileQ - 1) / set.schedule.tileQ; }
  int64_t keyTiles() const { return (keyExtent() + set.schedule.tileK - 1) / set.schedule.tileK; }
  /// Keys of v that a row looks at: S, or as many as its list has entries.
  int64_t keyExtent() const { return set.variant->keyList().input < 0 ? S : dim(set.variant->keyList().dim); }
  void bind(const std::string &name, const at::Tensor &tensor);
  /// Binds rows `first` and later of a tensor [B, H, rows, D] whose rows before are never touched and have no memory.
  void bindRows(const std::string &name, const at::Tensor &rows, int64_t first);
  void setDim(const std::string &name, int64_t size) { dims[set.dimPosition(name)] = size; }
  void run(const char *kernel);
  /// True where a kernel's code names a tensor.
  bool names(const char *kernel, const std::string &tensor) const;
  /// Chooses tiles, where the variant selects any and none were given: bool [B, H, query tiles, key tiles].
  const at::Tensor &select();
  /// Computes the bands or the lists of kept tiles; `byKey` the lists by key tile.
  void plan(bool byKey = false);
  /// Throws where a kept pair read outside an input.
  void checkStatus() const;

  KernelSet &set;
  int64_t B = 0, H = 0, G = 0, T = 0, S = 0;
  std::vector<at::Tensor> prepared;  ///< the inputs, in the signature's order
  /// What is kept of one set of keys: a band a head, or lists by query tile.
  struct Plan {
    int64_t keys;  ///< that a row can look at
    at::Tensor band, counts, entries;
  };
  std::vector<Plan> plans;  ///< of each of the variant's sets of keys, once planned
  at::Tensor selection;
  /// Run the last query tile of every head alone; the schedule's order must be HeadsInner, which has them first.
  bool lastTileOnly = false;

 private:
  void listKeys();
  Plan planKeys(const KeySetInfo &keys, bool byKey);

  std::vector<int64_t> dims;
  std::vector<at::Tensor> tensors;
  std::vector<int64_t> skipped;   ///< of each tensor: bytes from where row 0 would be to its memory
  at::Tensor status, chosenKeys;  ///< chosenKeys: the lists of single keys, once made
};

/// What CPU tensors are computed on: the CPU or the emulator.
Device hostDevice();
/// Where the call runs: with its tensors, or on the emulator where WEFT_DEVICE says so.
Device deviceOf(at::TensorList tensors);
/// The tensor itself or, where its rows lie so that the device cannot read them, a copy.
at::Tensor readable(const at::Tensor &tensor, const Device &device);
/// CPU threads a call may use: torch's setting, or fewer where WEFT_THREADS says so.
int threadCount();

}  // namespace weft::ops
