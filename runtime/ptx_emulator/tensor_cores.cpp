// ldmatrix, stmatrix and mma.sync. Semantics: PTX ISA manual, 9.7.14.
#include <algorithm>
#include <cstring>

#include "runtime/ptx_emulator/handlers.h"
#include "runtime/ptx_emulator/tensor_core_sums.h"

namespace weft::ptx {
namespace {

/// Instruction::variant of ldmatrix and stmatrix.
constexpr int Transposed = 1;

/// Which element of its matrix is the low or high half of a lane's register.
std::pair<int, int> elementOf(const Instruction &in, int lane, int half) {
  const int row = lane / 4, column = lane % 4 * 2 + half;
  return in.variant & Transposed ? std::pair{column, row} : std::pair{row, column};
}

/// ldmatrix.m8n8.xN: lanes 8m .. 8m + 7 point at the rows of matrix m.
void ldmatrix(Warp &warp, const Instruction &in, uint32_t lanes) {
  // Shuffled among all lanes: none may be missing.
  if (lanes != 0xFFFFFFFFu) warp.fail("a warp of fewer than 32 threads", __builtin_ctz(lanes));
  ++warp.block.report.ldmatrix;
  const Lanes from = addresses(warp, in.operands[1][0], lanes);
  const int matrices = static_cast<int>(in.operands[0].size());
  uint16_t elements[4][8][8];
  for (int lane = 0; lane < 8 * matrices; ++lane) {
    if (from[lane] % 16) warp.fail("misaligned ldmatrix row", lane);
    for (int half = 0; half < 2; ++half) {
      const uint64_t eight = warp.block.shared.read(warp, lane, from[lane] + 8 * half, 8);
      std::memcpy(&elements[lane / 8][lane % 8][4 * half], &eight, 8);
    }
  }
  for (int matrix = 0; matrix < matrices; ++matrix) {
    warp.block.countBanks(from, 0xFFu << 8 * matrix, 16);
    Lanes &out = warp.write(in.operands[0][matrix], lanes);
    for (int lane = 0; lane < 32; ++lane) {
      const auto [lowRow, lowColumn] = elementOf(in, lane, 0);
      const auto [highRow, highColumn] = elementOf(in, lane, 1);
      out[lane] = elements[matrix][lowRow][lowColumn] | static_cast<uint64_t>(elements[matrix][highRow][highColumn])
                                                            << 16;
    }
  }
}

/// stmatrix.m8n8.xN: the other way.
void stmatrix(Warp &warp, const Instruction &in, uint32_t lanes) {
  if (lanes != 0xFFFFFFFFu) warp.fail("a warp of fewer than 32 threads", __builtin_ctz(lanes));
  const Lanes to = addresses(warp, in.operands[0][0], lanes);
  const int matrices = static_cast<int>(in.operands[1].size());
  uint16_t elements[4][8][8];
  for (int matrix = 0; matrix < matrices; ++matrix) {
    const Lanes &own = warp.read(in.operands[1][matrix], lanes);
    for (int lane = 0; lane < 32; ++lane)
      for (int half = 0; half < 2; ++half) {
        const auto [row, column] = elementOf(in, lane, half);
        elements[matrix][row][column] = static_cast<uint16_t>(own[lane] >> 16 * half);
      }
  }
  warp.block.shared.beginStore();
  for (int lane = 0; lane < 8 * matrices; ++lane) {
    if (to[lane] % 16) warp.fail("misaligned stmatrix row", lane);
    for (int half = 0; half < 2; ++half)
      warp.block.shared.write(warp, lane, to[lane] + 8 * half, 8, &elements[lane / 8][lane % 8][4 * half]);
  }
  for (int matrix = 0; matrix < matrices; ++matrix) warp.block.countBanks(to, 0xFFu << 8 * matrix, 16);
}

/// mma.m16n8kK.row.col with f32 sums.
template <int K>
void mma(Warp &warp, const Instruction &in, uint32_t lanes) {
  if (lanes != 0xFFFFFFFFu) warp.fail("a warp of fewer than 32 threads", __builtin_ctz(lanes));
  ++warp.block.report.mma;
  const bool wide = in.type == Type::TF32;
  auto element = [&](uint64_t bits, int part) -> double {
    return wide ? fromTf32(bits) : floatOf(bits >> 16 * part & 0xFFFF, in.type);
  };
  const int parts = wide ? 1 : 2;
  Operands<K> all;
  for (int at = 0; at < 4; ++at) {
    const Lanes &a = warp.read(in.operands[1][at], lanes);
    for (int lane = 0; lane < 32; ++lane)
      for (int part = 0; part < parts; ++part) {
        const int row = lane / 4 + 8 * (at & 1), k = parts * (lane % 4) + part + K / 2 * (at >> 1);
        const double value = element(a[lane], part);
        all.left[row][k] = value;
        all.leftPower[row][k] = powerOf(value);
      }
  }
  for (int at = 0; at < 2; ++at) {
    const Lanes &b = warp.read(in.operands[2][at], lanes);
    for (int lane = 0; lane < 32; ++lane)
      for (int part = 0; part < parts; ++part) {
        const int column = lane / 4, k = parts * (lane % 4) + part + K / 2 * at;
        const double value = element(b[lane], part);
        all.right[k][column] = value;
        all.rightPower[k][column] = powerOf(value);
      }
  }
  float sums[16][8];
  auto place = [](int lane, int at) { return std::pair{lane / 4 + 8 * (at >> 1), lane % 4 * 2 + (at & 1)}; };
  for (int at = 0; at < 4; ++at) {
    const Lanes &c = warp.read(in.operands[3][at], lanes);
    for (int lane = 0; lane < 32; ++lane) {
      const auto [row, column] = place(lane, at);
      sums[row][column] = asFloat(c[lane]);
    }
  }
  const TensorCore core = coreOf(warp.block.launch.capability, in.type);
  for (int row = 0; row < 16; ++row) addProducts<K>(all, row, core, !warp.block.launch.seed, sums[row]);
  for (int at = 0; at < 4; ++at) {
    Lanes &out = warp.write(in.operands[0][at], lanes);
    for (int lane = 0; lane < 32; ++lane) {
      const auto [row, column] = place(lane, at);
      out[lane] = asBits(sums[row][column]);
    }
  }
}

}  // namespace

std::optional<Signature> decodeTensorCores(const Opcode &opcode, Instruction &in) {
  if (opcode[0] == "ldmatrix" || opcode[0] == "stmatrix") {
    const bool stores = opcode[0] == "stmatrix";
    for (const int matrices : {1, 2, 4}) {
      const std::string begin = opcode[0] + ".sync.aligned.m8n8.x" + std::to_string(matrices);
      const bool transposed = opcode.text == begin + ".trans.shared.b16";
      if (!transposed && opcode.text != begin + ".shared.b16") continue;
      in.execute = stores ? stmatrix : ldmatrix;
      in.converged = true;
      in.variant = transposed ? Transposed : 0;
      if (!stores) return Signature{{to(32, matrices), address(32)}};
      in.needs = Instruction::Needs::Sm90;
      return Signature{{address(32), from(32, matrices)}};
    }
    return {};
  }
  static const std::map<std::string, std::pair<Handler, Type>> products = {
      {"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", {mma<16>, Type::BF16}},
      {"mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", {mma<16>, Type::F16}},
      {"mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", {mma<8>, Type::TF32}}};
  auto found = products.find(opcode.text);
  if (found == products.end()) return {};
  std::tie(in.execute, in.type) = found->second;
  in.converged = true;
  return Signature{{to(32, 4), from(32, 4), from(32, 2), from(32, 4)}};
}

}  // namespace weft::ptx
