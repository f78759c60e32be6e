// Kernels for sm_90a in a few lines of PTX, run by the emulator with several seeds.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "runtime/ptx_emulator/emulator.h"

namespace weft::ptx {

/// A kernel `t` with a pointer in %rd1, the thread in %r1, 4 times it in %r2 (and %rd2), its warp in %r3, lane in %r4;
/// %p1 is true in thread 0, %p2 in lane 0. `parameters`: more of them, each with a comma before it.
inline std::string hopperKernel(const std::string &body, int threads, const std::string &parameters = "") {
  return ".version 8.6\n.target sm_90a\n.address_size 64\n.extern .shared .align 1024 .b8 smem[];\n.visible .entry "
         "t(\n.param .b64 t_0" +
         parameters + "\n)\n.reqntid " + std::to_string(threads) +
         "\n{\n.reg .pred %p<9>;\n.reg .b16 %rs<9>;\n.reg .b32 %r<300>;\n.reg .f32 %f<300>;\n.reg .b64 %rd<40>;\n"
         "ld.param.b64 %rd1, [t_0];\nmov.u32 %r1, %tid.x;\nshl.b32 %r2, %r1, 2;\nmul.wide.u32 %rd2, %r1, 4;\nadd.s64 "
         "%rd3, %rd1, %rd2;\nshr.u32 %r3, %r1, 5;\nand.b32 %r4, %r1, 31;\nsetp.eq.b32 %p1, %r1, 0;\nsetp.eq.b32 %p2, "
         "%r4, 0;\n" +
         body + "\nret;\n}\n";
}

struct HopperMemory {
  alignas(128) std::array<uint32_t, 32768> words{};
};

inline Report runHopper(const std::string &text, HopperMemory &memory, int threads, uint64_t seed,
                        const std::vector<uint8_t> &more = {}, int64_t sharedBytes = 65536) {
  Module module(text);
  Launch launch;
  launch.threads = threads;
  launch.sharedBytes = sharedBytes;
  launch.capability = 90;
  launch.seed = seed;
  launch.steps = 200000;
  launch.memory = {{reinterpret_cast<uint64_t>(memory.words.data()), sizeof memory.words}};
  launch.parameters.resize(8);
  std::memcpy(launch.parameters.data(), &launch.memory[0].begin, 8);
  launch.parameters.insert(launch.parameters.end(), more.begin(), more.end());
  return module.run("t", launch);
}

/// What is wrong with the kernel by the first seed that shows it; empty if nothing.
inline std::string hopperError(const std::string &body, int threads, int seeds = 8) {
  for (int seed = 0; seed < seeds; ++seed) {
    HopperMemory memory;
    try {
      runHopper(hopperKernel(body, threads), memory, threads, static_cast<uint64_t>(seed));
    } catch (const std::exception &error) {
      return error.what();
    }
  }
  return "";
}

struct PlantedBug {
  std::string body, message;
  int threads;
};
inline void expectReported(const std::vector<PlantedBug> &bugs) {
  for (const PlantedBug &bug : bugs) {
    const std::string error = hopperError(bug.body, bug.threads);
    EXPECT_NE(error.find(bug.message), std::string::npos) << bug.body << "\n" << error;
    EXPECT_NE(error.find("in t: line"), std::string::npos) << error;
    EXPECT_NE(error.find("thread"), std::string::npos) << error;
  }
}

/// `body` with the first `from` replaced; fails where there is none.
inline std::string replaced(std::string body, const std::string &from, const std::string &to) {
  const size_t at = body.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? body : body.replace(at, from.size(), to);
}

/// Waits until a phase of the parity is complete.
inline std::string waitFor(const std::string &barrier, const std::string &parity) {
  return "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [" + barrier + "], " + parity +
         ";\n@!done bra.uni again;\n}\n";
}

}  // namespace weft::ptx
