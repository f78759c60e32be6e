// The CUDA driver, opened when first asked for: a machine without it runs everything else.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/tensor_map.h"

namespace weft::cuda {

/// 10 times major and minor: 89 for compute capability 8.9. Throws std::runtime_error where there is no driver or no
/// such device, as do all here.
int capability(int device);
/// Multiprocessors.
int units(int device);
/// Name of the GPU and version of the driver: what compiled code and tuning results are kept under.
std::string identity(int device);

/// cuTensorMapEncodeTiled, into 128 bytes at a multiple of 64.
void encodeTensorMap(const TensorMap &map, void *bytes);

/// A kernel loaded into one device's primary context, which it shares with torch. Immutable.
class Function {
 public:
  /// `code` is a cubin or `ptx` itself. A cubin that the driver refuses is replaced by the PTX, which it compiles; the
  /// log says so. The driver's compiler log becomes part of the error.
  Function(int device, const std::string &code, const std::string &ptx, const std::string &entry, int64_t sharedBytes);
  /// Up to 2^31 - 1 blocks. No allocation, no synchronisation. `parameters` is copied by the driver before this
  /// returns.
  void launch(int64_t blocks, int threads, void *stream, const void *parameters) const;

 private:
  int device;
  int64_t sharedBytes;
  void *function = nullptr;
};

}  // namespace weft::cuda
