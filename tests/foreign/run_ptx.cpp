// Runs a kernel of a PTX text in the emulator: run_ptx < JOB > MEMORY. A job is a line of JSON, then the bytes of its
// buffers; what comes back are these after each run, one run a seed. What the emulator reports goes to stderr.
#include <cstring>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "runtime/ptx_emulator/emulator.h"
#include "runtime/tensor_map.h"

namespace weft::ptx {
namespace {

using Json = nlohmann::json;
using Buffers = std::vector<std::vector<uint8_t>>;

/// {"buffer": 0, "type": 6, "sizes": [64, 128], "box": [64, 64], "swizzle": 3}: the innermost dimension first, rows one
/// behind the other; type and swizzle as the driver numbers them.
EncodedTensorMap mapOf(const Json &own, const Buffers &buffers) {
  TensorMap map;
  map.type = static_cast<TensorMap::Type>(own.at("type").get<int>());
  map.rank = static_cast<int>(own.at("sizes").size());
  map.address = reinterpret_cast<uint64_t>(buffers.at(own.at("buffer")).data());
  auto stride = static_cast<uint64_t>(bytesOf(map.type));
  for (int at = 0; at < map.rank; ++at) {
    map.sizes[at] = own.at("sizes")[at];
    map.box[at] = own.at("box")[at];
    if (at > 0) map.strides[at] = stride;
    stride *= map.sizes[at];
  }
  map.swizzle = static_cast<Swizzle>(own.at("swizzle").get<int>());
  return encode(map, {Device::Kind::PtxEmulator, 90});
}

/// A parameter is {"address": a buffer}, {"map": ...}, {"i32": ...}, {"i64": ...} or {"f32": ...}; each lies at a
/// multiple of its size, maps at multiples of 64.
std::vector<uint8_t> parametersOf(const Json &all, const Buffers &buffers) {
  std::vector<uint8_t> bytes;
  auto put = [&](const auto &value, size_t align) {
    bytes.resize((bytes.size() + align - 1) / align * align);
    const auto *from = reinterpret_cast<const uint8_t *>(&value);
    bytes.insert(bytes.end(), from, from + sizeof value);
  };
  for (const Json &one : all) {
    const std::string kind = one.begin().key();
    const Json &value = one.begin().value();
    if (kind == "address") put(reinterpret_cast<uint64_t>(buffers.at(value).data()), 8);
    else if (kind == "map") put(mapOf(value, buffers), 64);
    else if (kind == "i32") put(value.get<int32_t>(), 4);
    else if (kind == "i64") put(value.get<int64_t>(), 8);
    else if (kind == "f32") put(value.get<float>(), 4);
    else throw std::runtime_error("expected address, map, i32, i64 or f32, got " + kind);
  }
  return bytes;
}

void run() {
  std::string line;
  std::getline(std::cin, line);
  const Json job = Json::parse(line);
  const std::vector<uint8_t> memory{std::istreambuf_iterator<char>(std::cin), {}};
  const Module module(job.at("text").get<std::string>());
  for (const uint64_t seed : job.at("seeds")) {
    // Each buffer by itself: what lies behind one is no other's.
    Buffers buffers;
    Launch launch;
    for (auto from = memory.begin(); const int64_t bytes : job.at("buffers")) {
      if (bytes > memory.end() - from) throw std::runtime_error("fewer bytes than the buffers have");
      buffers.emplace_back(from, from + bytes);
      from += bytes;
    }
    for (const auto &buffer : buffers)
      launch.memory.push_back({reinterpret_cast<uint64_t>(buffer.data()), static_cast<int64_t>(buffer.size())});
    launch.parameters = parametersOf(job.at("parameters"), buffers);
    launch.columns = job.at("grid")[0];
    launch.blocks = launch.columns * job.at("grid")[1].get<int64_t>();
    launch.threads = job.at("threads");
    launch.sharedBytes = job.at("shared");
    launch.capability = job.at("capability");
    launch.seed = seed;
    launch.steps = job.at("steps");
    module.run(job.at("kernel"), launch);
    for (const auto &buffer : buffers)
      std::cout.write(reinterpret_cast<const char *>(buffer.data()), static_cast<std::streamsize>(buffer.size()));
  }
}

}  // namespace
}  // namespace weft::ptx

int main() {
  try {
    weft::ptx::run();
    return 0;
  } catch (const std::exception &error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
