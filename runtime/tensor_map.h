// What a bulk tensor copy (TMA) of compute capability 9.0 knows of a tensor and of the boxes it copies.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace weft {

struct Device;

/// Which 16 bytes of shared memory change places with which: bits of their addresses from the fourth on are changed
/// where those from the seventh on are set. The name says how long the rows are.
enum class Swizzle : uint8_t { None, Bytes32, Bytes64, Bytes128 };

/// Dimension 0 is the innermost: its elements lie side by side. Elements outside the tensor are read as zeros and not
/// written.
struct TensorMap {
  /// In the order of CUtensorMapDataType.
  enum class Type : uint8_t { U8, U16, U32, S32, U64, S64, F16, F32, F64, BF16, F32Flushed, TF32, TF32Flushed };
  static constexpr int mostDimensions = 5;
  template <class T>
  using PerDimension = std::array<T, mostDimensions>;

  Type type = Type::F32;
  int rank = 1;
  uint64_t address = 0;                                  ///< in global memory
  PerDimension<uint64_t> sizes{};                        ///< elements
  PerDimension<uint64_t> strides{};                      ///< bytes; that of dimension 0 is not looked at
  PerDimension<uint32_t> box{};                          ///< elements
  PerDimension<uint32_t> elementStrides{1, 1, 1, 1, 1};  ///< of those that are copied out of a box
  Swizzle swizzle = Swizzle::None;

  bool operator==(const TensorMap &) const = default;
};

int64_t bytesOf(TensorMap::Type type);
/// Of a row of shared memory that the swizzle has: 32, 64 or 128; 0 where there is none.
int64_t widthOf(Swizzle swizzle);
/// What shared memory takes up of one box.
int64_t boxBytes(const TensorMap &map);

/// Why no GPU would take the map (CUDA driver API, cuTensorMapEncodeTiled); empty if it would.
std::string problemOf(const TensorMap &map);

/// A map as a kernel is given it: in a parameter at a multiple of 64 bytes, or in global memory.
struct alignas(64) EncodedTensorMap {
  std::array<uint8_t, 128> bytes{};
};
/// For kernels on that device. Throws std::runtime_error: problemOf, or that the device has no such copies.
EncodedTensorMap encode(const TensorMap &map, const Device &device);
/// The same, kept by each thread for tensors that it meets again. The reference holds until the next call.
const EncodedTensorMap &encodeOnce(const TensorMap &map, const Device &device);

}  // namespace weft
