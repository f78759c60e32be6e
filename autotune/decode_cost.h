// How long decoding one token takes: what it reads over how fast a device reads, what it multiplies over how fast the
// device multiplies, and what each kernel costs whatever it does. Plain arithmetic on counts (decode_count.h) and on a
// device's figures: those of a GPU stand in its data sheet, those of this CPU are measured (decode_probe.h).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "autotune/decode_count.h"

namespace weft::autotune {

struct DecodeMachine {
  std::string name;
  bool predicted = true;  ///< by a data sheet: nothing is measured
  double peak = 0;        ///< FLOP/s of products of the call's type
  /// Bytes/s of reading so many bytes again and again, by rising bytes: less of them stay in a cache.
  std::vector<std::pair<double, double>> bandwidth;
  int units = 1;             ///< programs that run at once
  double unitBandwidth = 0;  ///< bytes/s that one program gets at most; 0: all
  double launch = 0;         ///< seconds of a launch
  bool overlaps = true;      ///< memory is read beside arithmetic, else before it
  double ownCache = 0;  ///< bytes that stay near a unit: heads of a group read keys of more than that anew; 0: all stay

  double bandwidthOf(double bytes) const;
};

/// Of a GPU that need not be there: "h200". Throws std::runtime_error that lists those known.
DecodeMachine gpuMachine(const std::string &chip, const std::string &type);
/// Whose tiles a GPU's calls have: an emulator of its architecture.
Device gpuTiles(const std::string &chip);

/// What a variant's kernels take while all they read is in a cache.
struct DecodeKernel {
  double tile = 0;      ///< seconds of a kept tile on one unit
  double choosing = 0;  ///< of a tile of keys that is kept or not, for pooling, choosing and planning
  double program = 0;   ///< of a program (see DecodeCount) whatever it reads, on one unit
  double call = 0;      ///< of a call whatever it reads, beside its launches
  double cached = 0;    ///< bytes/s at which `tile` and `choosing` read already; 0: they are of arithmetic alone
  /// Seconds that a byte takes the kernel that attends beside `tile`, where so many bytes pass by before it comes
  /// again; by rising bytes, above 0. None: as plain reading.
  std::vector<std::pair<double, double>> far;
  double farPlain = 0;  ///< the same of plain reading, of the most bytes of `far`

  /// Seconds that a byte takes beside `tile`, read at `rate` bytes/s: what was read from a cache already is not again.
  double plainByte(double rate) const;
  /// The same for the kernel that attends, of one of so many bytes.
  double farByte(double bytes, double rate) const;
};
/// By a machine's peak, where the kernel is not measured.
DecodeKernel kernelByPeak(const DecodeCount &count, const DecodeMachine &machine);

/// Seconds of one call, and the parts they are of.
struct DecodeSeconds {
  double launches = 0;                ///< and the call itself
  double choosing = 0;                ///< pooling, choosing, planning
  double memory = 0, arithmetic = 0;  ///< of attending
  double all = 0;
  const char *bound() const;  ///< "launches", "choosing", "memory", "arithmetic": the longest
};
/// `layers` calls are gone through before one comes again: so many keys pass through the caches.
DecodeSeconds secondsOf(const DecodeCount &count, const DecodeMachine &machine, const DecodeKernel &kernel,
                        int64_t layers);

/// Weights that every token reads: of linear layers.
struct DecodeWeights {
  double parameters = 0, bytes = 0;
};
double secondsOf(const DecodeWeights &weights, const DecodeMachine &machine, int64_t sequences);

/// The length from which on `sparse` takes less than 99 % of what `dense` takes, at each longer one of `lengths`: the
/// least of these, or a length between two of them, known to a part in 32. None: not at the last one.
std::optional<int64_t> crossover(const std::vector<int64_t> &lengths, const std::function<double(int64_t)> &sparse,
                                 const std::function<double(int64_t)> &dense);

}  // namespace weft::autotune
