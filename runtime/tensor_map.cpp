#include "runtime/tensor_map.h"

#include <stdexcept>
#include <vector>

#include "runtime/device.h"
#include "runtime/device_backend.h"

namespace weft {

int64_t bytesOf(TensorMap::Type type) {
  using Type = TensorMap::Type;
  switch (type) {
    case Type::U8: return 1;
    case Type::U16:
    case Type::F16:
    case Type::BF16: return 2;
    case Type::U64:
    case Type::S64:
    case Type::F64: return 8;
    default: return 4;
  }
}

int64_t widthOf(Swizzle swizzle) { return swizzle == Swizzle::None ? 0 : 16 << static_cast<int>(swizzle); }

int64_t boxBytes(const TensorMap &map) {
  int64_t bytes = bytesOf(map.type) * map.box[0];
  // Along dimension 0 all are copied.
  for (int at = 1; at < map.rank; ++at) bytes *= (map.box[at] + map.elementStrides[at] - 1) / map.elementStrides[at];
  return bytes;
}

std::string problemOf(const TensorMap &map) {
  auto number = [](uint64_t value) { return std::to_string(value); };
  if (map.type > TensorMap::Type::TF32Flushed) return "unknown element type";
  if (map.swizzle > Swizzle::Bytes128) return "unknown swizzle";
  if (map.rank < 1 || map.rank > TensorMap::mostDimensions)
    return "expected 1 to 5 dimensions, got " + std::to_string(map.rank);
  if (!map.address || map.address % 16) return "expected an address that is a multiple of 16 bytes";
  for (int at = 0; at < map.rank; ++at) {
    const std::string dimension = "dimension " + std::to_string(at) + ": ";
    if (map.sizes[at] < 1 || map.sizes[at] > uint64_t{1} << 32)
      return dimension + "expected a size from 1 to 2^32, got " + number(map.sizes[at]);
    if (map.box[at] < 1 || map.box[at] > 256)
      return dimension + "expected a box of 1 to 256, got " + number(map.box[at]);
    if (map.elementStrides[at] < 1 || map.elementStrides[at] > 8)
      return dimension + "expected an element stride of 1 to 8, got " + number(map.elementStrides[at]);
    if (at && (map.strides[at] % 16 || map.strides[at] >= uint64_t{1} << 40))
      return dimension + "expected a stride that is a multiple of 16 bytes and below 2^40, got " +
             number(map.strides[at]);
  }
  const int64_t inner = bytesOf(map.type) * map.box[0], width = widthOf(map.swizzle);
  if (inner % 16) return "expected rows of a box that are a multiple of 16 bytes, got " + std::to_string(inner);
  if (width && inner > width)
    return "expected rows of a box of at most " + std::to_string(width) + " bytes, as its swizzle has, got " +
           std::to_string(inner);
  return {};
}

EncodedTensorMap encode(const TensorMap &map, const Device &device) {
  if (const std::string problem = problemOf(map); !problem.empty()) throw std::runtime_error("tensor map: " + problem);
  return backendOf(device).encode(map, device.index);
}

const EncodedTensorMap &encodeOnce(const TensorMap &map, const Device &device) {
  struct Kept {
    TensorMap map;
    Device device;
    EncodedTensorMap encoded;
  };
  constexpr size_t most = 64;
  static thread_local std::vector<Kept> kept(most);
  // Tensors are aligned; what tells them apart lies further up.
  Kept &own = kept[(map.address >> 8 ^ map.address >> 16 ^ map.box[1]) % most];
  if (!(own.map == map && own.device == device)) own = {map, device, encode(map, device)};
  return own.encoded;
}

}  // namespace weft
