#include "compiler/target/cpu/amx.h"

#include <array>

namespace weft::cpu {

namespace arith = mlir::arith;
namespace llvmir = mlir::LLVM;

void Amx::call(const char *intrinsic, llvm::ArrayRef<Value> args) {
  llvmir::CallIntrinsicOp::create(emit.b, emit.loc, emit.b.getStringAttr(intrinsic), args);
}
Value Amx::tile(int number) { return arith::ConstantIntOp::create(emit.b, emit.loc, number, 8); }

Value Amx::address(const HalfOperand &operand, Value row, Value byte) {
  return emit.at(operand.base, emit.add(emit.mul(row, operand.stride), byte), emit.b.getIntegerType(8));
}

void Amx::configure(Value scratch) {
  // Palette 1; bytes 16 to 31: bytes a row of each register; 48 to 55: rows.
  std::array<int64_t, 8> words{};
  words[0] = 1;
  words[2] = words[3] = 0x0040004000400040;
  words[6] = 0x1010101010101010;
  for (int at = 0; at < 8; ++at)
    emit.store(emit.i64(words[at]), emit.at(scratch, emit.i64(at), emit.b.getI64Type()), 8);
  call("llvm.x86.ldtilecfg", {scratch});
}
void Amx::release() { call("llvm.x86.tilerelease", {}); }
void Amx::stayAwake() { call("llvm.x86.tdpbf16ps", {tile(0), tile(6), tile(7)}); }

void Amx::product(Value out, Value outStride, const HalfOperand &a, const HalfOperand &b, int64_t rows, int64_t columns,
                  int64_t depth, bool accumulate) {
  Value outBytes = emit.mul(outStride, emit.i64(4));
  const HalfOperand sums{out, outBytes};
  // Blocks of 2 x 2 registers of sums (0 to 3), two of A (4, 5), two of B (6, 7).
  auto block = [&](Value m, Value n, int high, int wide) {
    Value nBytes = emit.mul(n, emit.i64(4));
    auto sum = [&](int r, int c) {
      return address(sums, emit.add(m, emit.i64(16 * r)), emit.add(nBytes, emit.i64(64 * c)));
    };
    for (int r = 0; r < high; ++r)
      for (int c = 0; c < wide; ++c) {
        if (accumulate) call("llvm.x86.tileloadd64", {tile(2 * r + c), sum(r, c), outBytes});
        else call("llvm.x86.tilezero", {tile(2 * r + c)});
      }
    emit.loop(emit.i64(0), emit.i64(depth / 32), 1, [&](Value k) {
      for (int r = 0; r < high; ++r)
        call("llvm.x86.tileloadd64",
             {tile(4 + r), address(a, emit.add(m, emit.i64(16 * r)), emit.mul(k, emit.i64(64))), a.stride});
      for (int c = 0; c < wide; ++c)
        call("llvm.x86.tileloadd64",
             {tile(6 + c), address(b, emit.mul(k, emit.i64(16)), emit.add(nBytes, emit.i64(64 * c))), b.stride});
      for (int r = 0; r < high; ++r)
        for (int c = 0; c < wide; ++c) call("llvm.x86.tdpbf16ps", {tile(2 * r + c), tile(4 + r), tile(6 + c)});
    });
    for (int r = 0; r < high; ++r)
      for (int c = 0; c < wide; ++c) call("llvm.x86.tilestored64", {tile(2 * r + c), sum(r, c), outBytes});
  };
  auto row = [&](Value m, int high) {
    const int64_t whole = columns / 32 * 32;
    if (whole) emit.loop(emit.i64(0), emit.i64(whole), 32, [&](Value n) { block(m, n, high, 2); });
    if (whole < columns) block(m, emit.i64(whole), high, 1);
  };
  const int64_t whole = rows / 32 * 32;
  if (whole) emit.loop(emit.i64(0), emit.i64(whole), 32, [&](Value m) { row(m, 2); });
  if (whole < rows) row(emit.i64(whole), 1);
}

}  // namespace weft::cpu
