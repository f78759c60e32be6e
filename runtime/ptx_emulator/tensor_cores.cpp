// ldmatrix and mma.sync. Semantics: PTX ISA manual, 9.7.14.
#include <algorithm>
#include <cstring>

#include "runtime/ptx_emulator/handlers.h"
#include "runtime/ptx_emulator/tensor_core_sums.h"

namespace weft::ptx {
namespace {

/// ldmatrix.m8n8.x4: lanes 8m .. 8m + 7 point at the rows of matrix m.
void ldmatrix(Warp &warp, const Instruction &in, uint32_t lanes) {
  // Shuffled among all lanes: none may be missing.
  if (lanes != 0xFFFFFFFFu) warp.fail("a warp of fewer than 32 threads", __builtin_ctz(lanes));
  ++warp.block.report.ldmatrix;
  const Lanes from = addresses(warp, in.operands[1][0], lanes);
  const bool transposed = in.variant & 1;
  uint16_t elements[4][8][8];
  for (int lane = 0; lane < 32; ++lane) {
    if (from[lane] % 16) warp.fail("misaligned ldmatrix row", lane);
    for (int half = 0; half < 2; ++half) {
      const uint64_t eight = warp.block.shared.read(warp, lane, from[lane] + 8 * half, 8);
      std::memcpy(&elements[lane / 8][lane % 8][4 * half], &eight, 8);
    }
  }
  for (int matrix = 0; matrix < 4; ++matrix) {
    warp.block.countBanks(from, 0xFFu << 8 * matrix, 16);
    Lanes &out = warp.write(in.operands[0][matrix], lanes);
    for (int lane = 0; lane < 32; ++lane) {
      const int row = lane / 4, column = lane % 4 * 2;
      const uint64_t low = transposed ? elements[matrix][column][row] : elements[matrix][row][column];
      const uint64_t high = transposed ? elements[matrix][column + 1][row] : elements[matrix][row][column + 1];
      out[lane] = low | high << 16;
    }
  }
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
  if (opcode[0] == "ldmatrix") {
    const bool transposed = opcode.text == "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16";
    if (!transposed && opcode.text != "ldmatrix.sync.aligned.m8n8.x4.shared.b16") return {};
    in.execute = ldmatrix;
    in.converged = true;
    in.variant = transposed;
    return Signature{{to(32, 4), address(32)}};
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
