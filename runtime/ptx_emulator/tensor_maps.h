// Tensor maps as the emulator encodes them, and the boxes they describe.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "runtime/tensor_map.h"

namespace weft::ptx {

EncodedTensorMap encodeTensorMap(const TensorMap &map);
/// Nothing where the 128 bytes are no map that encodeTensorMap has made.
std::optional<TensorMap> decodeTensorMap(const uint8_t *bytes);

inline uint64_t swizzled(uint64_t address, Swizzle swizzle) {
  const uint64_t bits = swizzle == Swizzle::None ? 0 : (1u << static_cast<int>(swizzle)) - 1;
  return address ^ (address >> 7 & bits) << 4;
}

/// body(offset in the box, global address, bytes) for each row of the part of a box that lies in the tensor; the box
/// begins at these coordinates.
template <class Body>
void eachRow(const TensorMap &map, const int32_t *coordinates, Body body) {
  const int64_t element = bytesOf(map.type), size = static_cast<int64_t>(map.sizes[0]);
  const int64_t begin = std::max<int64_t>(coordinates[0], 0),
                end = std::min<int64_t>(static_cast<int64_t>(coordinates[0]) + map.box[0], size);
  if (begin >= end) return;
  int64_t counts[TensorMap::mostDimensions] = {}, rows = 1;
  for (int at = 1; at < map.rank; ++at)
    rows *= counts[at] = (map.box[at] + map.elementStrides[at] - 1) / map.elementStrides[at];
  for (int64_t row = 0; row < rows; ++row) {
    uint64_t address = map.address + static_cast<uint64_t>(begin * element);
    bool inside = true;
    int64_t left = row;
    for (int at = 1; at < map.rank; left /= counts[at++]) {
      const int64_t place = coordinates[at] + left % counts[at] * map.elementStrides[at];
      inside &= place >= 0 && place < static_cast<int64_t>(map.sizes[at]);
      address += static_cast<uint64_t>(place) * map.strides[at];
    }
    if (inside)
      body((row * map.box[0] + begin - coordinates[0]) * element, address, static_cast<int>((end - begin) * element));
  }
}

}  // namespace weft::ptx
