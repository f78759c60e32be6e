#include "models/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <vector>

#include <nlohmann/json.hpp>

#include "models/json_keys.h"

namespace weft {
namespace {

using nlohmann::json;
using torch::Tensor;

static_assert(std::endian::native == std::endian::little, "tensors lie in files as they lie in memory");

constexpr size_t lengthBytes = 8, alignment = 8;
/// The format's own limit.
constexpr uint64_t longestHeader = 100'000'000;
constexpr size_t mostDims = 32;

struct Type {
  const char *name;
  torch::ScalarType type;
};

constexpr std::array types = {
    Type{"F64", torch::kFloat64}, Type{"I64", torch::kInt64},   Type{"F32", torch::kFloat32},
    Type{"I32", torch::kInt32},   Type{"F16", torch::kFloat16}, Type{"BF16", torch::kBFloat16},
    Type{"I16", torch::kInt16},   Type{"I8", torch::kInt8},     Type{"U8", torch::kUInt8},
    Type{"BOOL", torch::kBool},
};

std::string nameOf(torch::ScalarType type) {
  for (const Type &known : types)
    if (known.type == type) return known.name;
  throw std::invalid_argument(std::string("safetensors has no type for ") + c10::toString(type));
}

/// One that a header describes.
struct Entry {
  std::string name;
  torch::ScalarType type;
  std::vector<int64_t> shape;
  uint64_t begin, end;  ///< of its bytes, after the header
};

class Reader {
 public:
  Reader(std::string_view bytes, const std::string &origin) : bytes(bytes), origin(origin) {}

  TensorFile read() {
    const json header = readHeader();
    TensorFile file;
    std::vector<Entry> entries;
    for (const auto &[name, value] : header.items()) {
      if (name == "__metadata__") file.metadata = readMetadata(value);
      else entries.push_back(readEntry(name, value));
    }
    checkPlaces(entries);
    for (const Entry &entry : entries) {
      const Tensor tensor = torch::empty(entry.shape, entry.type);
      // A tensor without elements has no memory.
      if (entry.end > entry.begin)
        std::memcpy(tensor.data_ptr(), data.data() + entry.begin, static_cast<size_t>(entry.end - entry.begin));
      file.tensors[entry.name] = tensor;
    }
    return file;
  }

 private:
  std::string_view bytes, data;  ///< the whole; what follows the header
  const std::string &origin;

  [[noreturn]] void refuse(const std::string &what) const {
    throw std::runtime_error(origin + " is no safetensors file: " + what);
  }

  json readHeader() {
    if (bytes.size() < lengthBytes) refuse("it has " + std::to_string(bytes.size()) + " bytes, expected 8 at least");
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), lengthBytes);
    if (length > longestHeader)
      refuse("its header has " + std::to_string(length) + " bytes, expected at most " + std::to_string(longestHeader));
    if (length > bytes.size() - lengthBytes)
      refuse("its header has " + std::to_string(length) + " bytes, of which " +
             std::to_string(bytes.size() - lengthBytes) + " are there");
    const std::string_view text = bytes.substr(lengthBytes, length);
    data = bytes.substr(lengthBytes + length);
    // No object of the format lies deeper than 2.
    KeysOnce names;
    std::string wrong;
    auto look = [&](int depth, json::parse_event_t event, json &parsed) {
      if (depth > 3) wrong = "its header has lists in lists";
      if (const auto name = names.repeated(event, parsed)) wrong = "its header has the name '" + *name + "' twice";
      return wrong.empty();
    };
    if (!text.starts_with('{')) refuse("its header does not begin with {");
    json header;
    try {
      header = json::parse(text, look);
    } catch (const json::exception &error) {
      refuse(std::string("its header is not JSON: ") + error.what());
    }
    if (!wrong.empty()) refuse(wrong);
    return header;
  }

  std::map<std::string, std::string> readMetadata(const json &value) const {
    std::map<std::string, std::string> metadata;
    if (!value.is_object()) refuse("__metadata__ is no object");
    for (const auto &[key, text] : value.items()) {
      if (!text.is_string()) refuse("'" + key + "' of __metadata__ is no text");
      metadata[key] = text.get<std::string>();
    }
    return metadata;
  }

  Entry readEntry(const std::string &name, const json &value) const {
    auto demand = [&](bool ok, const std::string &what) {
      if (!ok) refuse("expected " + what + " of '" + name + "'");
    };
    // Whole numbers that 63 bits hold.
    auto isSize = [](const json &number) { return number.is_number_unsigned() && number.get<uint64_t>() >> 63 == 0; };
    demand(value.is_object() && value.size() == 3 && value.contains("dtype") && value.contains("shape") &&
               value.contains("data_offsets"),
           "dtype, shape and data_offsets");
    const json &type = value["dtype"], &shape = value["shape"], &place = value["data_offsets"];
    const Type *found = nullptr;
    for (const Type &known : types)
      if (type == known.name) found = &known;
    demand(found, "a dtype out of F64, F32, F16, BF16, I64, I32, I16, I8, U8 and BOOL");
    demand(shape.is_array() && shape.size() <= mostDims && std::ranges::all_of(shape, isSize), "a shape of sizes");
    demand(place.is_array() && place.size() == 2 && std::ranges::all_of(place, isSize), "two data_offsets");
    Entry entry{name, found->type, shape.get<std::vector<int64_t>>(), place[0].get<uint64_t>(),
                place[1].get<uint64_t>()};
    uint64_t size = c10::elementSize(found->type);
    bool fits = true;
    for (const int64_t dim : entry.shape)
      fits = fits && !__builtin_mul_overflow(size, static_cast<uint64_t>(dim), &size);
    demand(fits && size >> 62 == 0, "a shape that a machine can hold");
    demand(entry.begin <= entry.end && entry.end <= data.size(),
           "data_offsets in order within the " + std::to_string(data.size()) + " bytes after the header");
    demand(entry.end - entry.begin == size,
           std::to_string(size) + " bytes, got " + std::to_string(entry.end - entry.begin) + ",");
    return entry;
  }

  /// Every byte belongs to one tensor.
  void checkPlaces(const std::vector<Entry> &entries) const {
    std::vector<const Entry *> order;
    for (const Entry &entry : entries) order.push_back(&entry);
    std::ranges::sort(order, [](const Entry *a, const Entry *b) {
      return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
    });
    uint64_t end = 0;
    for (const Entry *entry : order) {
      if (entry->begin != end)
        refuse("'" + entry->name + "' begins at byte " + std::to_string(entry->begin) + ", expected " +
               std::to_string(end) + ", where the one before it ends");
      end = entry->end;
    }
    if (end != data.size())
      refuse("expected " + std::to_string(end) + " bytes after the header, got " + std::to_string(data.size()));
  }
};

}  // namespace

std::string printTensors(const TensorFile &file) {
  std::vector<const std::pair<const std::string, Tensor> *> order;
  for (const auto &tensor : file.tensors) order.push_back(&tensor);
  std::ranges::stable_sort(order, std::greater<>(), [](const auto *tensor) { return tensor->second.element_size(); });
  json header = json::object();
  if (!file.metadata.empty()) header["__metadata__"] = file.metadata;
  size_t size = 0;
  for (const auto *tensor : order) {
    const size_t end = size + tensor->second.nbytes();
    header[tensor->first] = {{"dtype", nameOf(tensor->second.scalar_type())},
                             {"shape", tensor->second.sizes().vec()},
                             {"data_offsets", {size, end}}};
    size = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + alignment - 1) / alignment * alignment, ' ');
  const uint64_t length = text.size();
  std::string bytes(reinterpret_cast<const char *>(&length), lengthBytes);
  bytes.reserve(lengthBytes + text.size() + size);
  bytes += text;
  for (const auto *tensor : order) {
    const Tensor dense = tensor->second.detach().cpu().contiguous();
    bytes.append(static_cast<const char *>(dense.data_ptr()), dense.nbytes());
  }
  return bytes;
}

TensorFile parseTensors(std::string_view bytes, const std::string &origin) { return Reader(bytes, origin).read(); }

}  // namespace weft
