// The emulator's bulk copies: boxes of tensors, swizzles, completion, and every misuse that is reported.
#include <gtest/gtest.h>

#include "runtime/ptx_emulator/numbers.h"
#include "runtime/ptx_emulator/tensor_maps.h"
#include "runtime/tensor_map.h"
#include "tests/unit/hopper_text.h"

namespace weft::ptx {
namespace {

constexpr Device hopper{Device::Kind::PtxEmulator, 90};

/// Of 32-bit words, 40 columns and 20 rows, the rows 48 words apart, from word 0 of the memory on.
TensorMap words(const HopperMemory &memory, uint32_t columns, uint32_t rows, Swizzle swizzle = Swizzle::None) {
  TensorMap map;
  map.type = TensorMap::Type::U32;
  map.rank = 2;
  map.address = reinterpret_cast<uint64_t>(memory.words.data());
  map.sizes = {40, 20};
  map.strides = {0, 192};
  map.box = {columns, rows};
  map.swizzle = swizzle;
  return map;
}

/// The parameters behind the first: maps at multiples of 64.
std::vector<uint8_t> parameters(const std::vector<TensorMap> &maps) {
  std::vector<uint8_t> all(56, 0);
  for (const TensorMap &map : maps) {
    const EncodedTensorMap own = encode(map, hopper);
    all.insert(all.end(), own.bytes.begin(), own.bytes.end());
  }
  return all;
}
const std::string oneMap = ",\n.param .align 64 .b8 t_1[128]";

const std::string begin =
    "mov.b64 %rd4, t_1;\ncvta.param.u64 %rd4, %rd4;\nmov.b32 %r10, smem;\nadd.s32 %r11, %r10, 32768;\n@%p1 "
    "mbarrier.init.shared::cta.b64 [%r11], 1;\nfence.proxy.async;\nbar.sync 0;\n";
std::string load(int bytes, const std::string &x, const std::string &y,
                 const std::string &spelling = "shared::cluster.global.mbarrier::complete_tx::bytes") {
  return "mov.b32 %r12, " + x + ";\nmov.b32 %r13, " + y +
         ";\n@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r11], " + std::to_string(bytes) +
         ";\n@%p1 cp.async.bulk.tensor.2d." + spelling + " [%r10], [%rd4, {%r12, %r13}], [%r11];\n";
}
/// 128 threads: shared words thread, thread + 128, ... below `words` to global words 8192 + ...
std::string copyOut(int words) {
  std::string body;
  for (int at = 0; at < words; at += 128)
    body += "ld.shared.b32 %r20, [%r2+" + std::to_string(4 * at) + "];\nst.global.b32 [%rd3+" +
            std::to_string(32768 + 4 * at) + "], %r20;\n";
  return body;
}

std::string errorOf(const std::string &body, const std::function<void(TensorMap &)> &change = {}, uint32_t columns = 8,
                    uint32_t rows = 16, uint64_t first = 0) {
  for (uint64_t seed = first; seed < first + 8; ++seed) {
    HopperMemory memory;
    TensorMap map = words(memory, columns, rows);
    if (change) change(map);
    try {
      runHopper(hopperKernel(body, 128, oneMap), memory, 128, seed, parameters({map}));
    } catch (const std::exception &error) {
      return error.what();
    }
  }
  return "";
}
void expectError(const std::string &body, const std::string &message,
                 const std::function<void(TensorMap &)> &change = {}) {
  const std::string error = errorOf(body, change);
  EXPECT_NE(error.find(message), std::string::npos) << body << "\n" << error;
  EXPECT_NE(error.find("in t: line"), std::string::npos) << error;
}

TEST(EmulatorBulk, boxesOfTensors) {
  const struct {
    int x, y;
    Swizzle swizzle;
    const char *spelling;
  } cases[] = {{0, 0, Swizzle::None, "shared::cluster.global.mbarrier::complete_tx::bytes"},
               {8, 3, Swizzle::Bytes32, "shared::cluster.global.tile.mbarrier::complete_tx::bytes"},
               {-3, -5, Swizzle::Bytes64, "shared::cta.global.mbarrier::complete_tx::bytes"},
               {30, 10, Swizzle::Bytes128, "shared::cta.global.tile.mbarrier::complete_tx::bytes"},
               {100, 0, Swizzle::None, "shared::cta.global.mbarrier::complete_tx::bytes"},
               {0, -64, Swizzle::None, "shared::cta.global.mbarrier::complete_tx::bytes"}};
  for (const auto &own : cases) {
    const int columns = own.swizzle == Swizzle::None ? 16 : static_cast<int>(widthOf(own.swizzle) / 4), rows = 32;
    for (uint64_t seed = 0; seed < 4; ++seed) {
      HopperMemory memory;
      for (uint32_t at = 0; at < 1024; ++at) memory.words[at] = at + 1;
      const TensorMap map = words(memory, static_cast<uint32_t>(columns), static_cast<uint32_t>(rows), own.swizzle);
      runHopper(hopperKernel(begin +
                                 load(4 * columns * rows, std::to_string(own.x), std::to_string(own.y), own.spelling) +
                                 waitFor("%r11", "0") + copyOut(columns * rows),
                             128, oneMap),
                memory, 128, seed, parameters({map}));
      for (int row = 0; row < rows; ++row)
        for (int column = 0; column < columns; ++column) {
          const int x = own.x + column, y = own.y + row;
          const bool inside = x >= 0 && x < 40 && y >= 0 && y < 20;
          uint32_t address = static_cast<uint32_t>(4 * (row * columns + column));
          if (own.swizzle == Swizzle::Bytes128) address ^= (address >> 7 & 7) << 4;
          if (own.swizzle == Swizzle::Bytes64) address ^= (address >> 7 & 3) << 4;
          if (own.swizzle == Swizzle::Bytes32) address ^= (address >> 7 & 1) << 4;
          ASSERT_EQ(memory.words[8192 + address / 4], inside ? static_cast<uint32_t>(48 * y + x + 1) : 0u)
              << x << " " << y;
        }
    }
  }
}

TEST(EmulatorBulk, boxesOfFiveDimensionsAndElementStrides) {
  HopperMemory memory;
  for (uint32_t at = 0; at < 8192; ++at) memory.words[at] = at;
  TensorMap map;
  map.type = TensorMap::Type::F32;
  map.rank = 5;
  map.address = reinterpret_cast<uint64_t>(memory.words.data());
  map.sizes = {8, 4, 4, 4, 4};
  map.strides = {0, 32, 128, 512, 2048};
  map.box = {4, 2, 4, 1, 2};
  map.elementStrides = {1, 1, 2, 1, 1};
  EXPECT_EQ(boxBytes(map), 4 * 4 * 2 * 2 * 1 * 2);
  runHopper(
      hopperKernel(begin +
                       "@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r11], 128;\n@%p1 "
                       "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
                       "[%r10], [%rd4, {2, 1, 1, 3, 2}], [%r11], 1234;\n" +
                       waitFor("%r11", "0") + "setp.lt.u32 %p3, %r1, 32;\n@!%p3 ret;\n" + copyOut(32),
                   128, oneMap),
      memory, 128, 1, parameters({map}));
  for (uint32_t at = 0; at < 32; ++at)
    EXPECT_EQ(memory.words[8192 + at],
              2 + at % 4 + 8 * (1 + at / 4 % 2) + 32 * (1 + 2 * (at / 8 % 2)) + 128 * 3 + 512 * (2 + at / 16));
}

TEST(EmulatorBulk, mapsInGlobalMemory) {
  HopperMemory memory;
  for (uint32_t at = 0; at < 1024; ++at) memory.words[at] = at;
  const EncodedTensorMap map = encode(words(memory, 8, 16), hopper);
  std::memcpy(&memory.words[16384], map.bytes.data(), map.bytes.size());
  const std::string body =
      replaced(begin, "mov.b64 %rd4, t_1;\ncvta.param.u64 %rd4, %rd4;\n", "add.s64 %rd4, %rd1, 65536;\n") +
      load(512, "8", "2") + waitFor("%r11", "0") + copyOut(128);
  runHopper(hopperKernel(body, 128), memory, 128, 1);
  for (uint32_t at = 0; at < 128; ++at) EXPECT_EQ(memory.words[8192 + at], 48 * (2 + at / 8) + 8 + at % 8);
}

const std::string store =
    "st.shared.b32 [%r2], %r1;\nfence.proxy.async.shared::cta;\nbar.sync 0;\n@%p1 "
    "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd4, {36, 2}], [%r10];\n@%p1 "
    "cp.async.bulk.commit_group;\n@%p1 cp.async.bulk.wait_group.read 0;\nbar.sync 0;\nst.shared.b32 [%r2], 0;\n";

TEST(EmulatorBulk, storesAndSums) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    HopperMemory memory;
    for (uint32_t &word : memory.words) word = 7;
    runHopper(hopperKernel(begin + store, 128, oneMap), memory, 128, seed, parameters({words(memory, 8, 16)}));
    for (uint32_t row = 0; row < 24; ++row)
      for (uint32_t column = 0; column < 48; ++column) {
        const bool inside = column >= 36 && column < 40 && row >= 2 && row < 18;
        EXPECT_EQ(memory.words[48 * row + column], inside ? 8 * (row - 2) + column - 36 : 7u);
      }
  }
  for (const TensorMap::Type type : {TensorMap::Type::F32, TensorMap::Type::F16, TensorMap::Type::BF16}) {
    HopperMemory memory;
    TensorMap map = words(memory, 8, 16);
    map.type = type;
    const bool wide = type == TensorMap::Type::F32, half = type == TensorMap::Type::F16;
    if (!wide) map.box[0] = map.sizes[0] = 16;
    const uint32_t one = wide   ? 0x3F800000
                         : half ? 0x3C003C00
                                : 0x3F803F80,
                   two = wide   ? 0x40000000
                         : half ? 0x40004000
                                : 0x40004000;
    for (uint32_t &word : memory.words) word = one;
    std::string body =
        replaced(store, "st.shared.b32 [%r2], %r1;", "st.shared.b32 [%r2], " + std::to_string(one) + ";");
    body = replaced(body, "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd4, {36",
                    "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group [%rd4, {0");
    runHopper(hopperKernel(begin + body, 128, oneMap), memory, 128, 3, parameters({map}));
    EXPECT_EQ(memory.words[48 * 2 + 3], two);
    EXPECT_EQ(memory.words[48 * 2 + 9], one);
  }
  // Lines, there and back.
  for (uint64_t seed = 0; seed < 4; ++seed) {
    HopperMemory memory;
    for (uint32_t at = 0; at < 1024; ++at) memory.words[at] = at;
    runHopper(
        hopperKernel(begin +
                         "@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r11], 512;\n@%p1 "
                         "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r10], [%rd1+64], 512, "
                         "[%r11];\n" +
                         waitFor("%r11", "0") +
                         "@%p1 cp.async.bulk.global.shared::cta.bulk_group [%rd1+32768], [%r10], 512;\n@%p1 "
                         "cp.async.bulk.commit_group;\n@%p1 cp.async.bulk.wait_group 0;\n",
                     128, oneMap),
        memory, 128, seed, parameters({words(memory, 8, 16)}));
    for (uint32_t at = 0; at < 128; ++at) EXPECT_EQ(memory.words[8192 + at], at + 16);
  }
}

TEST(EmulatorBulk, misuseIsReported) {
  const std::string good = begin + load(512, "0", "0") + waitFor("%r11", "0") + copyOut(128);
  EXPECT_EQ(errorOf(good), "");
  expectError(replaced(good, "_, [%r11], 512", "_, [%r11], 256"), "deadlock: the mbarrier at shared address 0x8000");
  expectError(replaced(good, "_, [%r11], 512", "_, [%r11], 1024"), "512 bytes pending");
  expectError(replaced(good, waitFor("%r11", "0"), ""), "shared");
  expectError(begin + load(512, "0", "0") + copyOut(128), "a bulk copy for the mbarrier at 0x8000");
  expectError(begin + load(512, "0", "0") + "st.shared.b32 [%r2], %r1;\n", "a bulk copy for the mbarrier at 0x8000");
  expectError(begin + load(512, "0", "0"), "no warp has waited for this bulk copy");
  const std::string two = begin + load(512, "0", "0") +
                          "@%p1 cp.async.bulk.tensor.2d.shared::cta.global.mbarrier::complete_tx::bytes [%r10+512], "
                          "[%rd4, {%r12, %r13}], [%r11];\n" +
                          waitFor("%r11", "0");
  expectError(two, "no warp has waited for this bulk copy");
  bool seen = false;
  for (uint64_t seed = 1; seed < 16; ++seed) {
    const std::string error = errorOf(two, {}, 8, 16, seed);
    seen |= error.find("copies are under way that were issued in it") != std::string::npos;
    EXPECT_NE(error, "");
  }
  EXPECT_TRUE(seen);
  expectError(replaced(good, "[%r10], [%rd4", "[%r10+64], [%rd4"), "misaligned bulk copy at shared address 0x40");
  expectError(replaced(good, "[%r10], [%rd4", "[%r10+65408], [%rd4"), "outside shared memory");
  expectError(replaced(good, "mov.b32 %r12", "add.s64 %rd4, %rd4, 64;\nmov.b32 %r12"), "past the parameters");
  expectError(replaced(good, "mov.b32 %r12", "add.s64 %rd4, %rd4, 8;\nmov.b32 %r12"), "misaligned tensor map");
  expectError(replaced(good, "[%rd4, {", "[%rd1, {"), "no tensor map at");
  EXPECT_NE(errorOf(replaced(good, "[%rd4, {", "[%rd4+64, {")).find("a tensor map's address alone"), std::string::npos);
  expectError(replaced(good, "mov.b32 %r12", "mov.b64 %rd4, 0;\nmov.b32 %r12"), "no tensor map at 0x0");
  expectError(good, "a tensor map of 3 dimensions in a copy of 2", [](TensorMap &map) {
    map.rank = 3;
    map.sizes[2] = map.box[2] = 1;
  });
  expectError(good, "outside all buffers", [](TensorMap &map) { map.address += sizeof(HopperMemory) - 64; });
  expectError(good, "only rows as long as the swizzle", [](TensorMap &map) { map.swizzle = Swizzle::Bytes128; });
  expectError(replaced(good, "[%rd4, {%r12, %r13}], [%r11]", "[%rd4, {%r12, %r13}], [%r11+8]"), "there is no mbarrier");
  // A second copy to what others may still read, or have written.
  const std::string again =
      "@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r11], 512;\n@%p1 "
      "cp.async.bulk.tensor.2d.shared::cta.global.mbarrier::complete_tx::bytes [%r10], [%rd4, {%r12, %r13}], "
      "[%r11];\n" +
      waitFor("%r11", "1");
  EXPECT_EQ(errorOf(good + "bar.sync 0;\n" + again), "");
  // Of another mbarrier: only warp 0 waits for it.
  const std::string both = replaced(good, "fence.proxy.async;",
                                    "@%p1 mbarrier.init.shared::cta.b64 [%r11+8], 1;\nfence.proxy.async;"),
                    early = both + "setp.lt.u32 %p3, %r1, 32;\n@!%p3 ret;\nadd.s32 %r11, %r11, 8;\n" +
                            replaced(again, waitFor("%r11", "1"), waitFor("%r11", "0"));
  expectError(early, "shared");
  EXPECT_EQ(errorOf(begin + "st.shared.b32 [%r2], %r1;\nfence.proxy.async;\nbar.sync 0;\n" + load(512, "0", "0") +
                    waitFor("%r11", "0") + copyOut(128)),
            "");
  expectError(begin + "st.shared.b32 [%r2], %r1;\nbar.sync 0;\n" + load(512, "0", "0") + waitFor("%r11", "0"),
              "no fence.proxy.async of that thread");
  expectError(begin + "st.shared.b32 [%r2], %r1;\nfence.proxy.async;\n" + load(512, "0", "0") + waitFor("%r11", "0"),
              "race: ");
  // Stores.
  EXPECT_EQ(errorOf(begin + store), "");
  expectError(begin + replaced(store, "fence.proxy.async.shared::cta;\n", ""), "no fence.proxy.async of that thread");
  expectError(begin + replaced(store, "fence.proxy.async.shared::cta;\n", "@%p2 fence.proxy.async.shared::cta;\n"),
              "which thread 1 wrote: no fence.proxy.async");
  expectError(begin + replaced(store, "fence.proxy.async.shared::cta;\nbar.sync 0;", "bar.sync 0;\nfence.proxy.async;"),
              "no fence.proxy.async of that thread");
  expectError(begin + replaced(store, "bar.sync 0;", ""), "shared");
  expectError(begin + replaced(store, "@%p1 cp.async.bulk.wait_group.read 0;\n", ""),
              "race: a bulk copy of warp 0 reads");
  expectError(begin + replaced(store, "wait_group.read 0", "wait_group.read 1"), "race: a bulk copy of warp 0 reads");
  expectError(begin + replaced(replaced(store, "@%p1 cp.async.bulk.wait_group.read 0;\n", ""),
                               "st.shared.b32 [%r2], 0;", ""),
              "returned without waiting for its bulk copy");
  expectError(begin +
                  replaced(replaced(store, "@%p1 cp.async.bulk.commit_group;\n", ""), "st.shared.b32 [%r2], 0;", ""),
              "returned without committing its bulk copy");
  expectError(begin + replaced(replaced(store, "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group",
                                        "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group"),
                               "{36", "{0"),
              "none of f32, f16 and bf16");
  expectError(begin + "@%p1 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r10], 8;\n",
              "a bulk copy of 8 bytes");
  expectError(begin + "@%p1 cp.async.bulk.global.shared::cta.bulk_group [%rd1+4], [%r10], 16;\n",
              "misaligned bulk copy");
  expectError(begin + "@%p1 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r10], 16;\n", "never written");
  expectError("mov.b64 %rd4, t_1;\nprefetch.tensormap [%rd4+64];", "past the parameters");
  EXPECT_EQ(errorOf("mov.b64 %rd4, t_1;\nprefetch.tensormap [%rd4];\nprefetch.param.tensormap "
                    "[%rd4];\ncp.async.bulk.prefetch.tensor.2d.L2.global [%rd4, "
                    "{3, -2}];"),
            "");
}

TEST(EmulatorBulk, mapsThatNoGpuTakes) {
  HopperMemory memory;
  const TensorMap good = words(memory, 8, 16);
  EXPECT_EQ(problemOf(good), "");
  EXPECT_EQ(decodeTensorMap(encodeTensorMap(good).bytes.data()), good);
  const struct {
    std::function<void(TensorMap &)> change;
    const char *message;
  } cases[] = {
      {[](TensorMap &map) { map.rank = 0; }, "1 to 5 dimensions"},
      {[](TensorMap &map) { map.rank = 6; }, "1 to 5 dimensions"},
      {[](TensorMap &map) { map.address += 8; }, "multiple of 16 bytes"},
      {[](TensorMap &map) { map.address = 0; }, "multiple of 16 bytes"},
      {[](TensorMap &map) { map.sizes[1] = 0; }, "dimension 1: expected a size from 1 to 2^32, got 0"},
      {[](TensorMap &map) { map.sizes[0] = (uint64_t{1} << 32) + 1; }, "dimension 0: expected a size"},
      {[](TensorMap &map) { map.strides[1] = 24; }, "dimension 1: expected a stride"},
      {[](TensorMap &map) { map.strides[1] = uint64_t{1} << 40; }, "dimension 1: expected a stride"},
      {[](TensorMap &map) { map.box[1] = 257; }, "dimension 1: expected a box of 1 to 256, got 257"},
      {[](TensorMap &map) { map.box[0] = 0; }, "dimension 0: expected a box"},
      {[](TensorMap &map) { map.box[0] = 6; }, "multiple of 16 bytes, got 24"},
      {[](TensorMap &map) { map.elementStrides[1] = 9; }, "element stride of 1 to 8, got 9"},
      {[](TensorMap &map) { map.box[0] = 12, map.swizzle = Swizzle::Bytes32; }, "at most 32 bytes"},
      {[](TensorMap &map) { map.type = static_cast<TensorMap::Type>(13); }, "unknown element type"},
  };
  for (const auto &own : cases) {
    TensorMap map = good;
    own.change(map);
    EXPECT_NE(problemOf(map).find(own.message), std::string::npos) << problemOf(map);
    EXPECT_THROW(encode(map, hopper), std::runtime_error);
  }
  EXPECT_THROW(encode(good, {Device::Kind::Cpu, 0}), std::runtime_error);
  EXPECT_THROW(encode(good, {Device::Kind::PtxEmulator, 0}), std::runtime_error);
}

}  // namespace
}  // namespace weft::ptx
