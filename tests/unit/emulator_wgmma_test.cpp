// The emulator's wgmma on matrices in every canonical layout, and every misuse that is reported.
#include <gtest/gtest.h>

#include "runtime/ptx_emulator/numbers.h"
#include "runtime/ptx_emulator/tensor_maps.h"
#include "tests/unit/hopper_text.h"

namespace weft::ptx {
namespace {

/// One operand: `rows` of M or N, `depth` of k, in global memory and then in shared memory.
struct Matrix {
  int rows, depth;
  bool transposed;  ///< rows lie side by side, not k
  Swizzle swizzle;

  int element = 2;
  /// Of 16 bytes, or of a row of the swizzle: what one box is wide.
  int across() const { return static_cast<int>(swizzle == Swizzle::None ? 16 : widthOf(swizzle)) / element; }
  int inner() const { return transposed ? rows : depth; }
  int outer() const { return transposed ? depth : rows; }
  int boxes() const { return inner() / across(); }
  int boxSize() const { return across() * element * outer(); }
  int bytes() const { return rows * depth * element; }
  /// What follows from the PTX manual's canonical layouts for boxes one behind the other.
  int leading() const {
    if (!transposed) return swizzle == Swizzle::None ? boxSize() : 16;
    return swizzle == Swizzle::None ? 128 : boxSize();
  }
  int stride() const {
    if (!transposed) return 8 * across() * element;
    return swizzle == Swizzle::None ? boxSize() : 8 * across() * element;
  }
  uint64_t mode() const { return swizzle == Swizzle::None ? 0 : 4 - static_cast<uint64_t>(swizzle); }
  uint64_t descriptor() const {
    return static_cast<uint64_t>(leading() >> 4) << 16 | static_cast<uint64_t>(stride() >> 4) << 32 | mode() << 62;
  }
  /// From one block of k to the next.
  int advance(int block) const {
    const int k = block * 32 / element;
    if (transposed) return k / 8 * (swizzle == Swizzle::None ? 128 : 8 * across() * element);
    return swizzle == Swizzle::None ? k / 8 * 8 / across() * boxSize()
                                    : k / across() * boxSize() + k % across() * element;
  }
};

std::string number(uint64_t value) { return std::to_string(value); }
std::string registers(int count, const std::string &kind = "%f", int first = 0) {
  std::string all = "{";
  for (int at = 0; at < count; ++at) all += (at ? ", " : "") + kind + number(static_cast<uint64_t>(first + at));
  return all + "}";
}

/// D = A B of f16 (or another type), A at 0 and B at 65536 of shared memory, the boxes one after the other; D goes to
/// word 8192 of the memory, by rows.
struct Product {
  Matrix left, right;
  std::string type = "f16";
  bool leftInRegisters = false;
  std::string scales = "1, 1";

  int columns() const { return right.rows; }
  std::string loads(const Matrix &matrix, const std::string &map, int to) const {
    std::string all;
    for (int box = 0; box < matrix.boxes(); ++box)
      all += "mov.b32 %r12, " + number(static_cast<uint64_t>(box * matrix.across())) +
             ";\n@%p1 cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r10+" +
             number(static_cast<uint64_t>(to + box * matrix.boxSize())) + "], [" + map + ", {%r12, 0}], [%r11];\n";
    return all;
  }
  std::string multiply() const {
    std::string all = "wgmma.fence.sync.aligned;\n";
    const int blocks = left.depth * left.element / 32;
    const std::string shape = "m64n" + number(static_cast<uint64_t>(columns())) + (left.element == 4 ? "k8" : "k16");
    for (int block = 0; block < blocks; ++block) {
      const uint64_t b = right.descriptor() + static_cast<uint64_t>((65536 + right.advance(block)) >> 4);
      const uint64_t a = left.descriptor() + static_cast<uint64_t>(left.advance(block) >> 4);
      all += "mov.b64 %rd5, 0x" + hexadecimal(a) + ";\nmov.b64 %rd6, 0x" + hexadecimal(b) +
             ";\nwgmma.mma_async.sync.aligned." + shape + ".f32." + type + "." + type + " " + registers(columns() / 2) +
             ", " + (leftInRegisters ? registers(4, "%r", 100 + 4 * block) : "%rd5") + ", %rd6, " +
             (block ? "1" : "0") + ", " + scales;
      if (left.element == 2 && !leftInRegisters) all += left.transposed ? ", 1" : ", 0";
      if (left.element == 2) all += right.transposed ? ", 1" : ", 0";
      all += ";\n";
    }
    return all + "wgmma.commit_group.sync.aligned;\n";
  }
  static std::string hexadecimal(uint64_t value) {
    char text[20];
    std::snprintf(text, sizeof text, "%llx", static_cast<unsigned long long>(value));
    return text;
  }
  std::string begin() const {
    std::string all =
        "mov.b64 %rd10, t_1;\nmov.b64 %rd11, t_2;\nmov.b32 %r10, smem;\nadd.s32 %r11, %r10, 131072;\n@%p1 "
        "mbarrier.init.shared::cta.b64 [%r11], 1;\nbar.sync 0;\n@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, "
        "[%r11], " +
        number(static_cast<uint64_t>(left.bytes() + right.bytes())) + ";\n" + loads(left, "%rd10", 0) +
        loads(right, "%rd11", 65536) + waitFor("%r11", "0");
    if (leftInRegisters)  // A lies without a swizzle, 16 bytes of each row together
      for (int block = 0; block < left.depth * left.element / 32; ++block)
        for (int at = 0; at < 4; ++at)
          all +=
              "shr.u32 %r13, %r4, 2;\nmad.lo.s32 %r13, %r3, 16, %r13;\nshl.b32 %r13, %r13, 4;\nand.b32 %r14, %r4, "
              "3;\nshl.b32 %r14, %r14, 2;\nadd.s32 %r13, %r13, %r14;\nld.shared.b32 %r" +
              number(static_cast<uint64_t>(100 + 4 * block + at)) + ", [%r13+" +
              number(static_cast<uint64_t>((at & 1) * 128 + (2 * block + (at >> 1)) * 1024)) + "];\n";
    return all;
  }
  std::string end() const {
    const std::string width = number(static_cast<uint64_t>(4 * columns()));
    std::string all = "shr.u32 %r15, %r4, 2;\nmad.lo.s32 %r15, %r3, 16, %r15;\nmul.wide.u32 %rd7, %r15, " + width +
                      ";\nand.b32 %r16, %r4, 3;\nmul.wide.u32 %rd8, %r16, 8;\nadd.s64 %rd7, %rd7, %rd8;\nadd.s64 "
                      "%rd7, %rd7, %rd1;\n";
    for (int at = 0; at < columns() / 2; ++at)
      all += "st.global.f32 [%rd7+" +
             number(static_cast<uint64_t>(32768 + at / 2 % 2 * 8 * 4 * columns() + 4 * (at / 4 * 8 + at % 2))) +
             "], %f" + number(static_cast<uint64_t>(at)) + ";\n";
    return all;
  }
  std::string body() const { return begin() + multiply() + "wgmma.wait_group.sync.aligned 0;\n" + end(); }
};

double valueOf(int which, int row, int k) { return (row * 7 + k * 3 + which * 5 + row * k % 3) % 9 - 4; }

void put(const Matrix &matrix, const std::string &type, int which, uint8_t *to) {
  for (int row = 0; row < matrix.rows; ++row)
    for (int k = 0; k < matrix.depth; ++k) {
      const float value = static_cast<float>(valueOf(which, row, k));
      const uint64_t bits = type == "f16" ? toF16(value) : type == "bf16" ? toBf16(value) : asBits(value);
      const int at = matrix.transposed ? k * matrix.rows + row : row * matrix.depth + k;
      std::memcpy(to + at * matrix.element, &bits, static_cast<size_t>(matrix.element));
    }
}

std::vector<uint8_t> prepare(const Product &product, HopperMemory &memory) {
  auto *bytes = reinterpret_cast<uint8_t *>(memory.words.data());
  std::vector<uint8_t> parameters(56, 0);
  uint8_t *to = bytes + 32768 + 65536;
  for (const Matrix *matrix : {&product.left, &product.right}) {
    put(*matrix, product.type, matrix == &product.right, to);
    TensorMap map;
    map.type = product.type == "f16"    ? TensorMap::Type::F16
               : product.type == "bf16" ? TensorMap::Type::BF16
                                        : TensorMap::Type::F32;
    map.rank = 2;
    map.address = reinterpret_cast<uint64_t>(to);
    map.sizes = {static_cast<uint64_t>(matrix->inner()), static_cast<uint64_t>(matrix->outer())};
    map.strides = {0, static_cast<uint64_t>(matrix->inner() * matrix->element)};
    map.box = {static_cast<uint32_t>(matrix->across()), static_cast<uint32_t>(matrix->outer())};
    map.swizzle = matrix->swizzle;
    const EncodedTensorMap own = encode(map, {Device::Kind::PtxEmulator, 90});
    parameters.insert(parameters.end(), own.bytes.begin(), own.bytes.end());
    to += 16384;
  }
  return parameters;
}

const std::string twoMaps = ",\n.param .align 64 .b8 t_1[128],\n.param .align 64 .b8 t_2[128]";

std::string errorOf(const Product &product, const std::string &body, uint64_t seed, HopperMemory &memory,
                    int threads = 128) {
  try {
    runHopper(hopperKernel(body, threads, twoMaps), memory, threads, seed, prepare(product, memory), 131072 + 64);
  } catch (const std::exception &error) {
    return error.what();
  }
  return "";
}

void expectProduct(const Product &product) {
  for (uint64_t seed = 0; seed < 3; ++seed) {
    HopperMemory memory;
    ASSERT_EQ(errorOf(product, product.body(), seed, memory), "") << product.body();
    const double scale = product.scales == "1, 1" || product.scales == "-1, -1" ? 1 : -1;
    for (int row = 0; row < 64; ++row)
      for (int column = 0; column < product.columns(); ++column) {
        double sum = 0;
        for (int k = 0; k < product.left.depth; ++k) sum += scale * valueOf(0, row, k) * valueOf(1, column, k);
        ASSERT_EQ(asFloat(memory.words[8192 + static_cast<size_t>(row * product.columns() + column)]), sum)
            << product.body() << row << " " << column;
      }
  }
}

constexpr Swizzle allSwizzles[] = {Swizzle::None, Swizzle::Bytes32, Swizzle::Bytes64, Swizzle::Bytes128};

TEST(EmulatorWgmma, everyLayoutOfBothOperands) {
  for (const Swizzle left : allSwizzles)
    for (const Swizzle right : allSwizzles)
      for (const bool leftTransposed : {false, true})
        for (const bool rightTransposed : {false, true})
          expectProduct({{64, 64, leftTransposed, left}, {64, 64, rightTransposed, right}, "f16"});
}

TEST(EmulatorWgmma, shapesTypesAndScales) {
  for (const int columns : {8, 24, 64, 128, 256}) {
    expectProduct({{64, 16, false, Swizzle::Bytes32}, {columns, 16, false, Swizzle::Bytes32}, "bf16"});
    if (columns % 64 == 0)
      expectProduct({{64, 32, false, Swizzle::Bytes64}, {columns, 32, true, Swizzle::Bytes128}, "f16"});
  }
  expectProduct({{64, 32, false, Swizzle::Bytes128, 4}, {32, 32, false, Swizzle::Bytes128, 4}, "tf32"});
  expectProduct({{64, 16, false, Swizzle::None, 4}, {16, 16, false, Swizzle::Bytes64, 4}, "tf32"});
  for (const char *scales : {"-1, 1", "1, -1", "-1, -1"})
    expectProduct({{64, 32, false, Swizzle::Bytes64}, {32, 32, false, Swizzle::Bytes64}, "f16", false, scales});
  for (const char *type : {"f16", "bf16"})
    expectProduct({{64, 64, false, Swizzle::None}, {64, 64, true, Swizzle::Bytes128}, type, true});
}

void expectError(const Product &product, const std::string &body, const std::string &message, int threads = 128) {
  for (uint64_t seed = 0; seed < 6; ++seed) {
    HopperMemory memory;
    const std::string error = errorOf(product, body, seed, memory, threads);
    EXPECT_NE(error.find(message), std::string::npos) << body << "\n" << error;
    EXPECT_NE(error.find("in t: line"), std::string::npos) << error;
  }
}

TEST(EmulatorWgmma, misuseIsReported) {
  const Product own{{64, 32, false, Swizzle::Bytes64}, {32, 32, false, Swizzle::Bytes64}, "f16"};
  const std::string wait = "wgmma.wait_group.sync.aligned 0;\n", body = own.body(), multiply = own.multiply();
  expectError(own, replaced(body, wait, ""), "read of register %f0, which a wgmma.mma_async uses");
  expectError(own, replaced(body, wait, "wgmma.wait_group.sync.aligned 1;\n"), "read of register %f0, which a wgmma");
  expectError(own, replaced(body, wait, "mov.f32 %f3, 0f00000000;\n" + wait), "write of register %f3, which a wgmma");
  expectError(own, replaced(body, "wgmma.commit_group.sync.aligned;\n", ""), "read of register %f0, which a wgmma");
  expectError(own, own.begin() + multiply, "returned without waiting for its wgmma.mma_async");
  expectError(own, replaced(body, "wgmma.fence.sync.aligned;\n", ""), "no wgmma.fence comes before the first");
  expectError(own,
              replaced(body, "wgmma.fence.sync.aligned;\n", "wgmma.fence.sync.aligned;\nmov.f32 %f3, 0f00000000;\n"),
              "no wgmma.fence lies between the last write of register %f3");
  expectError(own, replaced(body, ", %rd6, 0,", ", %rd6, 1,"), "read of register %f0, which was never written");
  expectError(own, replaced(body, waitFor("%r11", "0"), ""), "bulk copy for the mbarrier");
  // Shared memory that is written before the wait, and after it.
  const std::string write = "st.shared.b32 [%r2], 0;\n";
  expectError(own, replaced(body, wait, write + wait), "race: wgmma of warpgroup 0 reads shared address");
  HopperMemory memory;
  EXPECT_EQ(errorOf(own, replaced(body, wait, wait + write), 1, memory), "");
  expectError(own, replaced(body, "wgmma.fence", write + "bar.sync 0;\nwgmma.fence"),
              "no fence.proxy.async of that thread");
  EXPECT_EQ(errorOf(own,
                    replaced(body, "wgmma.fence",
                             "bar.sync 0;\n" + write + "fence.proxy.async;\nbar.sync 0;\nwgmma.fence"),
                    1, memory),
            "");
  // Warps that do not come together.
  const std::string first = "wgmma.mma_async", skip = "setp.eq.b32 %p3, %r3, 3;\n@%p3 bra $SKIP;\n";
  expectError(own, replaced(body, "wgmma.fence", skip + "wgmma.fence") + "$SKIP:\n",
              "deadlock: not all warps of the warpgroup come to this instruction");
  expectError(own, replaced(body, "mov.b64 %rd6", "cvt.u64.u32 %rd9, %r3;\nadd.s64 %rd5, %rd5, %rd9;\nmov.b64 %rd6"),
              "different matrices");
  expectError(own, replaced(body, "mov.b64 %rd6", "cvt.u64.u32 %rd9, %r4;\nadd.s64 %rd5, %rd5, %rd9;\nmov.b64 %rd6"),
              "the lanes of the warp have different descriptors of A");
  expectError(own, body, "a warpgroup of fewer than four warps", 64);
  // Descriptors and numbers.
  expectError(own, replaced(body, "mov.b64 %rd6", "add.s64 %rd5, %rd5, 0x2000000000000;\nmov.b64 %rd6"),
              "has bits that are not known");
  expectError(own, replaced(body, "mov.b64 %rd6", "mov.b64 %rd5, 0x3FFF;\nmov.b64 %rd6"), "outside shared memory");
  expectError(own, replaced(body, ", 1, 1, 0, 0;", ", 2, 1, 0, 0;"), "a scale of 2");
  expectError(own, replaced(body, ", 1, 1, 0, 0;", ", 1, 1, 0, 3;"), "a transposition of neither 0 nor 1");
  expectError(own, replaced(body, ", 1, 1, 0, 0;", ", 1, 1, 0;"), "expected 8 operands, got 7");
  // A in registers.
  const Product held{{64, 32, false, Swizzle::None}, {32, 32, false, Swizzle::Bytes64}, "f16", true};
  const std::string inRegisters = held.body();
  expectError(held, replaced(inRegisters, wait, "mov.b32 %r101, 0;\n" + wait),
              "write of register %r101, which a wgmma");
  expectError(held, replaced(inRegisters, wait, "add.s32 %r9, %r101, 0;\n" + wait),
              "read of register %r101, which a wgmma");
  expectError(held,
              replaced(inRegisters, "wgmma.fence.sync.aligned;\n", "wgmma.fence.sync.aligned;\nmov.b32 %r101, 0;\n"),
              "no wgmma.fence lies between the last write of register %r101");
  expectError(held, replaced(inRegisters, "{%r100, ", "{7, "), "expected registers");
}

TEST(EmulatorWgmma, groupsAreWaitedForInOrder) {
  const Product own{{64, 32, false, Swizzle::Bytes64}, {32, 32, false, Swizzle::Bytes64}, "f16"};
  // The second product of the same matrices goes to %f64 and on.
  std::string second = own.multiply();
  for (size_t at = 0; (at = second.find("%f", at)) != std::string::npos; ++at) {
    size_t end = at + 2;
    while (std::isdigit(static_cast<unsigned char>(second[end]))) ++end;
    const std::string moved = "%f" + std::to_string(64 + std::stoi(second.substr(at + 2, end - at - 2)));
    second.replace(at, end - at, moved);
  }
  const std::string one = "wgmma.wait_group.sync.aligned 1;\n", all = "wgmma.wait_group.sync.aligned 0;\n",
                    other = "add.f32 %f200, %f64, %f65;\n", both = own.begin() + own.multiply() + second;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    HopperMemory memory;
    EXPECT_EQ(errorOf(own, both + one + own.end() + all + other, seed, memory), "");
    double sum = 0;
    for (int k = 0; k < 32; ++k) sum += valueOf(0, 5, k) * valueOf(1, 7, k);
    EXPECT_EQ(asFloat(memory.words[8192 + 5 * 32 + 7]), sum);
  }
  expectError(own, both + one + other + all, "read of register %f64, which a wgmma");
  expectError(own, both + own.end() + all, "read of register %f0, which a wgmma");
  expectError(own, own.begin() + own.multiply() + own.multiply() + one + own.end() + all, "read of register %f0");
}

TEST(EmulatorWgmma, architectures) {
  const Product own{{64, 32, false, Swizzle::Bytes64}, {32, 32, false, Swizzle::Bytes64}, "f16"};
  HopperMemory memory;
  const std::vector<uint8_t> parameters = prepare(own, memory);
  const std::string text = replaced(hopperKernel(own.body(), 128, twoMaps), "sm_90a", "sm_90");
  try {
    runHopper(text, memory, 128, 0, parameters, 131072 + 64);
    FAIL();
  } catch (const std::exception &error) {
    EXPECT_NE(std::string(error.what()).find("has instructions of sm_90a alone"), std::string::npos) << error.what();
  }
  Launch launch;
  launch.capability = 80;
  for (const char *body : {"elect.sync _|%p3, -1;", "cp.async.bulk.commit_group;"}) {
    try {
      Module(replaced(hopperKernel(body, 32), "sm_90a", "sm_80")).run("t", launch);
      FAIL();
    } catch (const std::exception &error) {
      EXPECT_NE(std::string(error.what()).find("has instructions of sm_90, which"), std::string::npos) << error.what();
    }
  }
}

TEST(EmulatorWgmma, registersAreHandedAround) {
  // 384 threads: 168 registers each.
  const std::string body =
      "setp.lt.u32 %p3, %r1, 128;\n@!%p3 bra $CONSUMER;\nsetmaxnreg.dec.sync.aligned.u32 24;\n"
      "ret;\n$CONSUMER:\nsetmaxnreg.inc.sync.aligned.u32 240;\nst.global.b32 [%rd3], %r1;\n";
  for (uint64_t seed = 0; seed < 6; ++seed) {
    HopperMemory memory;
    runHopper(hopperKernel(body, 384), memory, 384, seed);
    EXPECT_EQ(memory.words[383], 383u);
  }
  const struct {
    std::string body, message;
  } bugs[] = {
      {replaced(body, "u32 24", "u32 40"), "deadlock: no warp gives away the registers for 240 of a thread"},
      {replaced(body, "u32 240", "u32 248"), "deadlock: no warp gives away the registers for 248 of a thread"},
      {replaced(body, "u32 24;", "u32 20;"), "expected a multiple of 8 from 24 to 256"},
      {replaced(body, "u32 240", "u32 236"), "expected a multiple of 8 from 24 to 256"},
      {replaced(body, "u32 240", "u32 160"), "setmaxnreg.inc to 160, and the warp has 168"},
      {replaced(body, "u32 24;", "u32 176;"), "setmaxnreg.dec to 176, and the warp has 168"},
      {replaced(body, "%r1, 128", "%r1, 96"), "another warp of the warpgroup has come to another setmaxnreg"},
      {"setp.lt.u32 %p3, %r1, 96;\n@!%p3 ret;\nsetmaxnreg.dec.sync.aligned.u32 24;\n",
       "returned without the setmaxnreg to 24"},
  };
  for (const auto &bug : bugs) {
    const std::string error = hopperError(bug.body, 384);
    EXPECT_NE(error.find(bug.message), std::string::npos) << bug.body << error;
  }
}

TEST(EmulatorWgmma, oneThreadIsElected) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    HopperMemory memory;
    runHopper(hopperKernel("elect.sync %r10|%p3, -1;\nelect.sync _|%p4, 0xFFFFFFFF;\nselp.b32 %r11, 1, 0, "
                           "%p3;\n@%p4 add.s32 %r11, %r11, 1;\nst.global.b32 [%rd3], %r11;\nst.global.b32 [%rd3+512], "
                           "%r10;\nmov.u32 %r12, %cluster_ctarank;\nmapa.shared::cluster.u32 %r13, %r2, "
                           "%r12;\nst.global.b32 [%rd3+1024], %r13;",
                           32),
              memory, 32, seed);
    for (uint32_t lane = 0; lane < 32; ++lane) {
      EXPECT_EQ(memory.words[lane], lane == memory.words[128] ? 2u : 0u);
      EXPECT_EQ(memory.words[256 + lane], 4 * lane);
    }
  }
  EXPECT_NE(hopperError("elect.sync %r10|%p3, 0xFFFF;", 32).find("the mask leaves out lanes"), std::string::npos);
  EXPECT_NE(hopperError("mov.b32 %r10, 1;\nmapa.shared::cluster.u32 %r13, %r2, %r10;", 32).find("a cluster of one"),
            std::string::npos);
}

}  // namespace
}  // namespace weft::ptx
