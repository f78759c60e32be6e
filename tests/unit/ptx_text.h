// Kernels in a few lines of PTX, run by the emulator in memory that is watched.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "runtime/ptx_emulator/emulator.h"

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
    module.run(entry, launch);
    return "";
  } catch (const std::runtime_error &error) {
    return error.what();
  }
}

}  // namespace weft::ptx
