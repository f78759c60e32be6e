// Tuned schedules: one JSON file a device, under the cache directory, shared by all processes.
//
// {"schema": 1, "device": {"name": ...}, "entries": [{"variant", "variant_hash", "type", "head_dims", "direction",
//   "bucket": {"heads", "queries", "keys"}, "threads", "build", "shape", "complete", "schedule", "seconds",
//   "default_seconds", "clock_ghz", "points": [{"schedule", "predicted", "samples", "note"}]}]}
// Times are seconds of one pass. A file that cannot be read is put aside as <file>.damaged-<n>; one that others than
// the user could have written (see private_folder.h) is not read.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "compiler/compiler.h"
#include "runtime/device.h"
#include "runtime/file_lock.h"

namespace weft {

/// What a schedule is tuned for. Sizes are buckets: powers of two, rounded up.
struct TuningKey {
  std::string variant, variantHash;
  ElementType type = ElementType::F32;
  std::map<std::string, int64_t> headDims;
  bool backward = false;
  int64_t heads = 0, queries = 0, keys = 0;  ///< B * H, T, S
  int threads = 0;                           ///< CPU; 0 elsewhere

  bool operator==(const TuningKey &) const = default;
};
int64_t bucketOf(int64_t size);
/// "causal forward f32 D=64 E=64, 8 x 2048 x 2048, 2 threads".
std::string describe(const TuningKey &key);

struct TuningPoint {
  Schedule schedule;
  double predicted = 0;         ///< seconds, by the model
  std::vector<double> samples;  ///< seconds of single passes
  std::string note;             ///< why it was not measured, or not to the end
};

struct TuningEntry {
  TuningKey key;
  std::string build;                       ///< of the compiler whose code was measured
  std::string shape;                       ///< B,H,T,D of the tensors measured with
  bool complete = false;                   ///< the search came to its end
  Schedule schedule;                       ///< the best so far
  double seconds = 0, defaultSeconds = 0;  ///< medians of the last round, interleaved
  double clockGhz = 0;                     ///< of the CPU while measuring
  std::vector<TuningPoint> points;
};

class ScheduleCache {
 public:
  /// The cache of a device; its file need not exist.
  explicit ScheduleCache(const Device &device);

  std::filesystem::path path() const;
  const std::string &deviceName() const { return identity; }
  /// Of any compiler build: compare with buildIdentity(). Reads the file.
  std::optional<TuningEntry> find(const TuningKey &key) const;
  std::vector<TuningEntry> entries() const;
  /// Adds the entry or replaces that of the same key; what others wrote meanwhile stays. Throws std::runtime_error
  /// where the file cannot be written.
  void store(const TuningEntry &entry) const;
  /// Adds the entries of another file, of the same device, that are complete and not slower than ours of the same key
  /// and build. Gives how many. Throws std::runtime_error where it is no such file.
  size_t merge(const std::filesystem::path &other) const;
  void exportTo(const std::filesystem::path &other) const;
  /// For one search on this device at a time, of all processes; does not wait.
  std::unique_ptr<FileLock> tuningLock() const;

 private:
  std::string identity, file;

  std::vector<TuningEntry> read(const PrivateFolder &folder, std::string &wrong) const;
  std::vector<TuningEntry> readLocked(const PrivateFolder &folder) const;
  FileLock lock(const PrivateFolder &folder) const;
  void write(const PrivateFolder &folder, const std::vector<TuningEntry> &entries) const;
};

}  // namespace weft
