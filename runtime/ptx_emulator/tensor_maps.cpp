#include "runtime/ptx_emulator/tensor_maps.h"

#include <cstring>

namespace weft::ptx {
namespace {

constexpr uint64_t mark = 0x70616D20746E6574;

/// One field after the other.
class Fields {
 public:
  explicit Fields(uint8_t *bytes) : at(bytes) {}
  void put(uint64_t value, int bytes) {
    std::memcpy(at, &value, static_cast<size_t>(bytes));
    at += bytes;
  }
  uint64_t take(int bytes) {
    uint64_t value = 0;
    std::memcpy(&value, at, static_cast<size_t>(bytes));
    at += bytes;
    return value;
  }

 private:
  uint8_t *at;
};

/// FNV-1a of all but the last 8 bytes.
uint64_t digest(const EncodedTensorMap &own) {
  uint64_t sum = 0xCBF29CE484222325u;
  for (size_t at = 0; at + 8 < own.bytes.size(); ++at) sum = (sum ^ own.bytes[at]) * 0x100000001B3u;
  return sum;
}

}  // namespace

EncodedTensorMap encodeTensorMap(const TensorMap &map) {
  EncodedTensorMap own;
  Fields fields(own.bytes.data());
  fields.put(mark, 8);
  fields.put(map.address, 8);
  fields.put(static_cast<uint64_t>(map.type), 1);
  fields.put(static_cast<uint64_t>(map.rank), 1);
  fields.put(static_cast<uint64_t>(map.swizzle), 1);
  for (int at = 0; at < TensorMap::mostDimensions; ++at) {
    fields.put(map.sizes[at], 5);
    fields.put(map.strides[at], 5);
    fields.put(map.box[at], 2);
    fields.put(map.elementStrides[at], 1);
  }
  Fields(own.bytes.data() + own.bytes.size() - 8).put(digest(own), 8);
  return own;
}

std::optional<TensorMap> decodeTensorMap(const uint8_t *bytes) {
  EncodedTensorMap own;
  std::memcpy(own.bytes.data(), bytes, own.bytes.size());
  Fields fields(own.bytes.data());
  TensorMap map;
  if (fields.take(8) != mark || Fields(own.bytes.data() + own.bytes.size() - 8).take(8) != digest(own)) return {};
  map.address = fields.take(8);
  map.type = static_cast<TensorMap::Type>(fields.take(1));
  map.rank = static_cast<int>(fields.take(1));
  map.swizzle = static_cast<Swizzle>(fields.take(1));
  for (int at = 0; at < TensorMap::mostDimensions; ++at) {
    map.sizes[at] = fields.take(5);
    map.strides[at] = fields.take(5);
    map.box[at] = static_cast<uint32_t>(fields.take(2));
    map.elementStrides[at] = static_cast<uint32_t>(fields.take(1));
  }
  if (!problemOf(map).empty()) return {};
  return map;
}

}  // namespace weft::ptx
