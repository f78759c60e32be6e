// wgmma.* and setmaxnreg. Semantics: PTX ISA manual, "Asynchronous Warpgroup Level Matrix Instructions".
#include <bit>

#include "runtime/ptx_emulator/handlers.h"
#include "runtime/ptx_emulator/tensor_core_sums.h"
#include "runtime/ptx_emulator/tensor_maps.h"

namespace weft::ptx {
namespace {

int elementsOf16Bytes(Type type) { return type == Type::TF32 ? 4 : 8; }

/// All lanes of the warp have the same number there.
uint64_t uniformOf(Warp &warp, const Operand &operand, const char *what) {
  const Lanes &all = warp.read(operand, 0xFFFFFFFFu);
  for (int lane = 1; lane < 32; ++lane)
    if (all[lane] != all[0]) warp.fail(std::string("the lanes of the warp have different ") + what, lane);
  return all[0];
}

int scaleOf(const Warp &warp, const Operand &operand) {
  const auto own = static_cast<int32_t>(operand.value);
  if (own != 1 && own != -1) warp.fail("a scale of " + std::to_string(own) + ", expected 1 or -1", 0);
  return own;
}

/// D, A, B, scale of D, scales of A and B, then, of 16 bits, whether A (in shared memory) and B are transposed.
void multiply(Warp &warp, const Instruction &in, uint32_t lanes) {
  if (lanes != 0xFFFFFFFFu) warp.fail("a warp of fewer than 32 threads", std::countr_zero(~lanes));
  ++warp.block.report.mma;
  const bool inRegisters = in.operands[1].size() > 1;
  for (const Operand &part : in.operands[1])
    if (inRegisters && part.kind != Operand::Kind::Register) warp.fail("expected registers, or the descriptor of A", 0);
  const size_t expected = in.type == Type::TF32 ? 6 : inRegisters ? 7 : 8;
  if (in.operands.size() != expected)
    warp.fail("expected " + std::to_string(expected) + " operands, got " + std::to_string(in.operands.size()), 0);
  for (size_t at = 6; at < expected; ++at)
    if (in.operands[at][0].value > 1) warp.fail("a transposition of neither 0 nor 1", 0);
  scaleOf(warp, in.operands[4][0]);
  scaleOf(warp, in.operands[5][0]);
  const uint64_t left = inRegisters ? 0 : uniformOf(warp, in.operands[1][0], "descriptors of A"),
                 right = uniformOf(warp, in.operands[2][0], "descriptors of B");
  const bool accumulates = uniformOf(warp, in.operands[3][0], "scales of D");
  warp.block.warpgroupOf(warp).multiply(warp, in, left, right, accumulates);
}

void fence(Warp &warp, const Instruction &, uint32_t) { ++warp.inFlight->fences; }
void commit(Warp &warp, const Instruction &, uint32_t) { warp.block.warpgroupOf(warp).commit(warp); }
void wait(Warp &warp, const Instruction &in, uint32_t) {
  warp.block.warpgroupOf(warp).wait(warp, in.operands[0][0].value);
}

template <bool More>
void setRegisters(Warp &warp, const Instruction &in, uint32_t) {
  const auto count = static_cast<int>(std::min<uint64_t>(in.operands[0][0].value, 1000));
  // Once more when others have given some away.
  if (!warp.block.warpgroupOf(warp).setRegisters(warp, More, count)) --warp.paths.back().pc;
}

template <int K>
void executeOf(const Product &product, const std::array<Warp *, 4> &warps) {
  const Instruction &in = *product.instruction;
  const Block &block = warps[0]->block;
  const int columns = columnsOf(in), wide = in.type == Type::TF32, parts = wide ? 1 : 2,
            each = elementsOf16Bytes(in.type), bytes = 16 / each;
  const double scaleLeft = scaleOf(*warps[0], in.operands[4][0]), scaleRight = scaleOf(*warps[0], in.operands[5][0]);
  auto element = [&](uint64_t bits) -> double { return wide ? fromTf32(bits) : floatOf(bits & 0xFFFF, in.type); };
  auto unpack = [&](const std::vector<uint32_t> &addresses, int rows, bool transposed, double scale, auto &&put) {
    for (size_t at = 0; at < addresses.size(); ++at)
      for (int part = 0; part < each; ++part) {
        uint64_t bits = 0;
        std::memcpy(&bits, block.shared.raw(addresses[at]) + part * bytes, static_cast<size_t>(bytes));
        // In the order of addressesOf.
        const int outer = static_cast<int>(at), row = transposed ? outer % (rows / each) * each + part : outer % rows,
                  k = transposed ? outer / (rows / each) : outer / rows * each + part;
        put(row, k, scale * element(bits));
      }
  };
  std::vector<std::array<double, K>> left(64);
  if (!product.left.empty())
    unpack(product.left, 64, transposes(in, false), scaleLeft,
           [&](int row, int k, double value) { left[row][k] = value; });
  std::vector<std::array<double, K>> right(static_cast<size_t>(columns));
  unpack(product.right, columns, transposes(in, true), scaleRight,
         [&](int column, int k, double value) { right[column][k] = value; });
  const TensorCore core = coreOf(block.launch.capability, in.type);
  for (int index = 0; index < 4; ++index) {
    Warp &warp = *warps[static_cast<size_t>(index)];
    if (product.left.empty())
      for (int at = 0; at < 4; ++at) {
        const Lanes &a = warp.registers[in.operands[1][at].index];
        for (int lane = 0; lane < 32; ++lane)
          for (int part = 0; part < parts; ++part)
            left[16 * index + lane / 4 + 8 * (at & 1)][parts * (lane % 4) + part + K / 2 * (at >> 1)] =
                scaleLeft * element(a[lane] >> 16 * part);
      }
    Operands<K> all;
    for (int row = 0; row < 16; ++row)
      for (int k = 0; k < K; ++k) {
        all.left[row][k] = left[16 * index + row][k];
        all.leftPower[row][k] = powerOf(all.left[row][k]);
      }
    for (int first = 0; first < columns; first += 8) {
      for (int k = 0; k < K; ++k)
        for (int column = 0; column < 8; ++column) {
          all.right[k][column] = right[first + column][k];
          all.rightPower[k][column] = powerOf(all.right[k][column]);
        }
      float sums[16][8] = {};
      auto eachSum = [&](auto &&body) {
        for (int at = 0; at < 4; ++at) {
          Lanes &d = warp.registers[in.operands[0][first / 2 + at].index];
          for (int lane = 0; lane < 32; ++lane) body(sums[lane / 4 + 8 * (at >> 1)][lane % 4 * 2 + (at & 1)], d[lane]);
        }
      };
      if (product.accumulates) eachSum([](float &sum, uint64_t bits) { sum = asFloat(bits); });
      for (int row = 0; row < 16; ++row) addProducts<K>(all, row, core, !block.launch.seed, sums[row]);
      eachSum([](float &sum, uint64_t &bits) { bits = asBits(sum); });
    }
  }
}

}  // namespace

/// Instruction::variant of wgmma.mma_async.
int columnsOf(const Instruction &in) { return in.variant; }

bool transposes(const Instruction &in, bool right) {
  if (in.type == Type::TF32) return false;
  const size_t inRegisters = in.operands[1].size() > 1;
  return in.operands[right ? 7 - inRegisters : 6][0].value != 0;
}

/// The canonical layouts: matrices of 8 rows of 16 bytes, or of the swizzle's width, which two strides put together.
std::vector<uint32_t> addressesOf(const Warp &warp, uint64_t descriptor, int rows, bool transposed) {
  constexpr uint64_t known = 0xC000'3FFF'3FFF'3FFF;
  if (descriptor & ~known)
    warp.fail("matrix descriptor " + hex(descriptor) + " has bits that are not known: " + hex(descriptor & ~known), 0);
  const uint64_t start = (descriptor & 0x3FFF) << 4, leading = (descriptor >> 16 & 0x3FFF) << 4,
                 stride = (descriptor >> 32 & 0x3FFF) << 4, mode = descriptor >> 62;
  const Swizzle swizzle = mode == 1   ? Swizzle::Bytes128
                          : mode == 2 ? Swizzle::Bytes64
                          : mode == 3 ? Swizzle::Bytes32
                                      : Swizzle::None;
  const uint64_t width = mode ? 256u >> mode : 16;  // bytes of a row
  std::vector<uint32_t> all;
  // 32 bytes along k, or 16 rows of k; 16 bytes at a time.
  for (int outer = 0; outer < (transposed ? 16 : 2); ++outer)
    for (int inner = 0; inner < (transposed ? rows / 8 : rows); ++inner) {
      const auto k = static_cast<uint64_t>(outer), r = static_cast<uint64_t>(inner), across = width / 16;
      uint64_t offset = 0;
      if (!transposed) offset = r % 8 * width + r / 8 * stride + k * (mode ? 16 : leading);
      else if (!mode) offset = r * stride + k % 8 * 16 + k / 8 * leading;
      else offset = r % across * 16 + r / across * leading + k % 8 * width + k / 8 * stride;
      all.push_back(static_cast<uint32_t>(swizzled(start + offset, swizzle)));
    }
  return all;
}

void execute(const Product &product, const std::array<Warp *, 4> &warps) {
  if (product.instruction->type == Type::TF32) executeOf<8>(product, warps);
  else executeOf<16>(product, warps);
}

std::optional<Signature> decodeWarpgroup(const Opcode &opcode, Instruction &in) {
  static const std::map<std::string, std::pair<Handler, Signature>> whole = {
      {"wgmma.fence.sync.aligned", {fence, {}}},
      {"wgmma.commit_group.sync.aligned", {commit, {}}},
      {"wgmma.wait_group.sync.aligned", {wait, {{number()}}}},
      {"setmaxnreg.inc.sync.aligned.u32", {setRegisters<true>, {{number()}}}},
      {"setmaxnreg.dec.sync.aligned.u32", {setRegisters<false>, {{number()}}}}};
  in.converged = true;
  in.needs = Instruction::Needs::Sm90a;
  if (auto found = whole.find(opcode.text); found != whole.end()) {
    in.execute = found->second.first;
    in.warpgroup = opcode[0] == "wgmma";
    return found->second.second;
  }
  const bool known = opcode.text.rfind("wgmma.mma_async.sync.aligned.m64n", 0) == 0 && opcode.size() == 8 &&
                     opcode[5] == "f32" && opcode[6] == opcode[7];
  in.type = known ? typeOf(opcode[6]) : Type::None;
  const bool wide = in.type == Type::TF32;
  if (wide || in.type == Type::BF16 || in.type == Type::F16)
    for (int columns = 8; columns <= 256; columns += 8)
      if (opcode[4] == "m64n" + std::to_string(columns) + (wide ? "k8" : "k16")) {
        in.execute = multiply;
        in.variant = columns;
        in.warpgroup = true;
        OperandRule left{OperandRule::Kind::From, 64, 1, 4};
        left.partBits = 32;
        return Signature{{to(32, columns / 2), left, from(64), from(1), number(), number(), number(), number()},
                         wide ? 2u : 1u};
      }
  in = {};
  return {};
}

}  // namespace weft::ptx
