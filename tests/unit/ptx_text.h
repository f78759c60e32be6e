// Kernels in a few lines of PTX, run by the emulator in memory that is watched.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "runtime/ptx_emulator/emulator.h"
#include "runtime/tensor_map.h"

namespace weft::ptx {

inline std::string header(const std::string &declarations = "") {
  return ".version 7.0\n.target sm_80\n.address_size 64\n.extern .shared .align 16 .b8 smem[];\n" + declarations +
         ".visible .entry t(\n.param .b64 t_0\n)\n{\n";
}
inline std::string kernel(const std::string &body) {
  return header() +
         ".reg .pred %p<9>;\n.reg .b16 %rs<9>;\n.reg .b32 %r<40>;\n.reg .b64 %rd<20>;\nld.param.b64 %rd1, "
         "[t_0];\nmov.u32 %r1, %tid.x;\n" +
         body + "\nret;\n}\n";
}

/// Buffers with guards on both sides, which no kernel may change.
class Arena {
 public:
  static constexpr size_t guard = 4096, size = 16384;

  Arena() : bytes(guard + size + guard, 0xA5) { std::fill(begin(), begin() + size, 0); }
  uint8_t *begin() { return bytes.data() + guard + (64 - reinterpret_cast<uintptr_t>(bytes.data() + guard) % 64) % 64; }
  bool intact() {
    const auto same = [](uint8_t byte) { return byte == 0xA5; };
    return std::all_of(bytes.data(), begin(), same) && std::all_of(begin() + size, bytes.data() + bytes.size(), same);
  }

 private:
  std::vector<uint8_t> bytes;
};

/// For kernels of sm_90a: two tensor maps of the arena in their parameters, at 64 and 192. A box of 16 rows of 64
/// bytes, and one of 32 words by 4 by 2.
inline void putMaps(Launch &launch, Arena &arena) {
  TensorMap map;
  map.type = TensorMap::Type::F16;
  map.rank = 2;
  map.address = reinterpret_cast<uint64_t>(arena.begin());
  map.sizes = {40, 30};
  map.strides = {0, 128};
  map.box = {32, 16};
  map.swizzle = Swizzle::Bytes64;
  const EncodedTensorMap first = encode(map, {Device::Kind::PtxEmulator, 90});
  map.type = TensorMap::Type::F32;
  map.rank = 3;
  map.sizes = {32, 6, 4};
  map.strides = {0, 256, 2048};
  map.box = {32, 4, 2};
  map.swizzle = Swizzle::Bytes128;
  const EncodedTensorMap second = encode(map, {Device::Kind::PtxEmulator, 90});
  std::memcpy(&launch.parameters[64], first.bytes.data(), 128);
  std::memcpy(&launch.parameters[192], second.bytes.data(), 128);
}

/// What the module says of its kernel run in `arena`, empty if nothing. Parameters are pointers into it, and small
/// numbers.
inline std::string run(const std::string &text, Arena &arena, int64_t steps, const std::string &entry = "t",
                       int threads = 64, int64_t sharedBytes = 16384) {
  try {
    const Module module(text);
    Launch launch;
    launch.blocks = 2;
    launch.threads = threads;
    launch.sharedBytes = sharedBytes;
    launch.steps = steps;
    launch.seed = 3;
    launch.memory = {{reinterpret_cast<uint64_t>(arena.begin()), static_cast<int64_t>(Arena::size)}};
    launch.parameters.resize(4096);
    for (size_t at = 0; at < launch.parameters.size() / 8; ++at) {
      const uint64_t value = at % 3 == 0 ? launch.memory[0].begin + 256 * (at % 32) : at % 17;
      std::memcpy(&launch.parameters[8 * at], &value, 8);
    }
    if (text.find(".target sm_90a") != std::string::npos) {
      launch.capability = 90;
      putMaps(launch, arena);
    }
    module.run(entry, launch);
    return "";
  } catch (const std::runtime_error &error) {
    return error.what();
  }
}

}  // namespace weft::ptx
