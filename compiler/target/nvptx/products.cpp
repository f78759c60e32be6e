// Products by mma.sync, and the fragments they take.
#include <array>

#include "compiler/target/nvptx/kernel_code.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

namespace weft::nvptx {
namespace {

namespace arith = mlir::arith;
namespace llvmir = mlir::LLVM;
namespace nvvm = mlir::NVVM;

class Product {
 public:
  Product(KernelCode &code, cta::MmaOp op)
      : emit(code.emit),
        thread(code.thread),
        kind(op.getKind()),
        element(op.getRhs().getType().getElement()),
        right(anchored(code.buffer(op.getRhs()))),
        sums(op.getAcc() ? code.registersOf(op.getAcc()) : Registers(code.count(op.getType()), emit.constantF(0))) {
    // Coordinates of ldmatrix: rows by bit 3 of the lane and columns by bit 4, or the other way round.
    auto bits = [&](int mask) { return Value(arith::AndIOp::create(emit.b, emit.loc, thread.lane, i32(mask))); };
    Value inner = bits(7), low = bits(8), high = arith::ShRUIOp::create(emit.b, emit.loc, bits(16), i32(1));
    pairRow = emit.add(inner, low);
    pairColumn = high;
    crossRow = emit.add(inner, high);
    crossColumn = low;
  }

  /// Of a 16-bit type.
  bool half() const { return kind != cta::MmaKind::TF32x3; }

  /// a[m][k] b[n][k]
  Registers nt(const SharedTile &left) {
    const SharedTile a = anchored(left);
    // f32: thread (g, t) takes the depths t and t + 4.
    auto at = [&](const SharedTile &tile, Value row, int64_t depth) {
      return load(tile, row, emit.add(thread.quad, i32(depth)));
    };
    multiply(
        thread.blocks(a.rows()), a.padded(),
        [&](int64_t block, int64_t k) -> Four {
          if (half()) return matrices(a, thread.blockRow(block), 0, 16 * k, {}, Order::Pair, false);
          Value low = emit.add(thread.blockRow(block), thread.group), high = emit.add(low, i32(8));
          return {at(a, low, 8 * k), at(a, high, 8 * k), at(a, low, 8 * k + 4), at(a, high, 8 * k + 4)};
        },
        [&](int64_t n, int64_t k) -> Four {
          if (half()) return matrices(right, {}, 8 * n, 16 * k, {}, Order::Cross, false);
          Value first = emit.add(thread.group, i32(8 * n)), second = emit.add(thread.group, i32(8 * n + 8));
          return {at(right, first, 8 * k), at(right, first, 8 * k + 4), at(right, second, 8 * k),
                  at(right, second, 8 * k + 4)};
        });
    return sums;
  }

  /// a[m][k] b[k][n], a in registers; of 16-bit types packed
  Registers nn(llvm::ArrayRef<Value> a, int64_t depth) {
    const int64_t tiles = depth / 8, perTile = half() ? 2 : 4,
                  blocks = static_cast<int64_t>(a.size()) / (tiles * perTile);
    // f32: thread (g, t) takes the depths 2t and 2t + 1, as fragments have them.
    multiply(
        blocks, depth,
        [&](int64_t block, int64_t k) -> Four {
          const Value *own = &a[(block * tiles + (half() ? 2 : 1) * k) * perTile];
          if (half()) return {own[0], own[1], own[2], own[3]};
          return {own[0], own[2], own[1], own[3]};
        },
        [&](int64_t n, int64_t k) { return rightRows(n, k); });
    return sums;
  }

  /// a[k][m] b[k][n]
  Registers tn(const SharedTile &left) {
    const SharedTile a = anchored(left);
    multiply(
        thread.blocks(a.columns()), a.rows(),
        [&](int64_t block, int64_t k) -> Four {
          if (half()) return matrices(a, {}, 16 * k, 0, thread.blockRow(block), Order::Cross, true);
          auto [even, odd] = depths(k);
          // As cta.store_shared has them: column 2c of eight at c, column 2c + 1 at 4 + c.
          Value half = arith::ShRUIOp::create(emit.b, emit.loc, thread.group, i32(1));
          Value parity = arith::AndIOp::create(emit.b, emit.loc, thread.group, i32(1));
          Value place = emit.add(half, emit.mul(parity, i32(4)));
          Value low = emit.add(thread.blockRow(block), place), high = emit.add(low, i32(8));
          return {load(a, even, low), load(a, even, high), load(a, odd, low), load(a, odd, high)};
        },
        [&](int64_t n, int64_t k) { return rightRows(n, k); });
    return sums;
  }

 private:
  enum class Order { Pair, Cross };
  using Four = std::array<Value, 4>;

  Emitter &emit;
  Thread &thread;
  const cta::MmaKind kind;
  const mlir::Type element;
  const SharedTile right;
  Registers sums;
  Value pairRow, pairColumn, crossRow, crossColumn;

  Value i32(int64_t value) { return emit.i32(value); }
  SharedTile anchored(SharedTile tile) {
    tile.base = thread.anchored(tile.base);
    return tile;
  }

  /// loadA(block, step) gives the four registers of A; loadB(two n-tiles, step) those of B, two a tile.
  template <class LoadA, class LoadB>
  void multiply(int64_t blocks, int64_t depth, LoadA loadA, LoadB loadB) {
    const int64_t tiles = static_cast<int64_t>(sums.size()) / (4 * blocks), step = half() ? 16 : 8;
    for (int64_t k = 0; k < depth / step; ++k) {
      std::vector<Four> a;
      for (int64_t block = 0; block < blocks; ++block) a.push_back(loadA(block, k));
      for (int64_t n = 0; n < tiles; n += 2) {
        const Four b = loadB(n, k);
        for (int64_t block = 0; block < blocks; ++block)
          for (int pair = 0; pair < 2; ++pair) {
            Value *own = &sums[(block * tiles + n + pair) * 4];
            if (half()) mma(own, a[block], b[2 * pair], b[2 * pair + 1]);
            else mmaSplit(own, a[block], b[2 * pair], b[2 * pair + 1]);
          }
      }
    }
  }

  /// Rows 16 k and the following of the right side (8 k of f32), of the 16 columns from 8 n on.
  Four rightRows(int64_t n, int64_t k) {
    if (half()) return matrices(right, {}, 16 * k, 8 * n, {}, Order::Pair, true);
    auto [even, odd] = depths(k);
    Value first = emit.add(thread.group, i32(8 * n)), second = emit.add(thread.group, i32(8 * n + 8));
    return {load(right, even, first), load(right, odd, first), load(right, even, second), load(right, odd, second)};
  }
  std::pair<Value, Value> depths(int64_t k) {
    Value even = emit.add(emit.mul(thread.quad, i32(2)), i32(8 * k));
    return {even, emit.add(even, i32(1))};
  }

  Four matrices(const SharedTile &tile, Value rowOffset, int64_t row, int64_t column, Value columnOffset, Order order,
                bool transposed) {
    Value r = emit.add(order == Order::Pair ? pairRow : crossRow, i32(row));
    Value c = emit.add(order == Order::Pair ? pairColumn : crossColumn, i32(column));
    if (rowOffset) r = emit.add(r, rowOffset);
    if (columnOffset) c = emit.add(c, columnOffset);
    Value address =
        emit.at(tile.base, emit.add(emit.mul(r, i32(tile.pitch())), emit.mul(c, i32(2))), emit.b.getIntegerType(8));
    mlir::MLIRContext *context = emit.b.getContext();
    mlir::Type word = emit.b.getI32Type();
    auto result = llvmir::LLVMStructType::getLiteral(context, {word, word, word, word});
    auto loaded = nvvm::LdMatrixOp::create(emit.b, emit.loc, result, address, 4,
                                           transposed ? nvvm::MMALayout::col : nvvm::MMALayout::row,
                                           nvvm::LdStMatrixShapeAttr::get(context, 8, 8), nvvm::LdStMatrixEltType::B16);
    return parts(loaded);
  }
  Value load(const SharedTile &tile, Value row, Value column) {
    Value offset = emit.add(emit.mul(row, i32(tile.pitch())), emit.mul(column, i32(4)));
    return emit.load(emit.b.getF32Type(), emit.at(tile.base, offset, emit.b.getIntegerType(8)), 4);
  }
  Four parts(Value four) {
    Four result;
    for (int64_t at = 0; at < 4; ++at)
      result[at] = llvmir::ExtractValueOp::create(emit.b, emit.loc, four, llvm::ArrayRef<int64_t>{at});
    return result;
  }

  void mma(Value *sums, const Four &a, Value b0, Value b1) {
    mlir::Type f32 = emit.b.getF32Type();
    auto result = llvmir::LLVMStructType::getLiteral(emit.b.getContext(), {f32, f32, f32, f32});
    const nvvm::MMATypes type = kind == cta::MmaKind::BF16  ? nvvm::MMATypes::bf16
                                : kind == cta::MmaKind::F16 ? nvvm::MMATypes::f16
                                                            : nvvm::MMATypes::tf32;
    auto operand = [&](Value word) -> Value {
      if (kind != cta::MmaKind::F16) return word;
      return llvmir::BitcastOp::create(emit.b, emit.loc, mlir::VectorType::get({2}, element), word);
    };
    llvm::SmallVector<Value, 4> left, right{operand(b0), operand(b1)};
    for (Value word : a) left.push_back(operand(word));
    auto product = nvvm::MmaOp::create(emit.b, emit.loc, result, left, right, llvm::ArrayRef<Value>(sums, 4),
                                       llvm::ArrayRef<int64_t>{16, 8, half() ? 16 : 8}, std::nullopt, std::nullopt,
                                       std::array{type, type}, std::array{nvvm::MMALayout::row, nvvm::MMALayout::col});
    llvm::copy(parts(product), sums);
  }

  /// f32 by three products of tf32: each factor is its nearest tf32 and the rest; rest times rest is below f32. Tensor
  /// cores cut sums off where f32 rounds: their error would grow with the depth, always towards zero. So they add the
  /// products of one step, from zero and the small ones first, and the sum of the steps is f32's own (Ootomo, Yokota:
  /// "Recovering single precision accuracy from tensor cores while surpassing the FP32 theoretical peak performance",
  /// 2022).
  ///
  /// The nearest tf32 by two integer operations where `cvt.rna.tf32` takes seven: half of the last place kept, added to
  /// the magnitude, then the rest cut off. NaN may become anything here, but its rest is NaN. The rest has 13 bits of
  /// either sign, of which 11 are kept.
  void mmaSplit(Value *sums, const Four &a, Value b0, Value b1) {
    auto bits = [&](Value x) -> Value { return arith::BitcastOp::create(emit.b, emit.loc, emit.b.getI32Type(), x); };
    auto cut = [&](Value x) -> Value { return arith::AndIOp::create(emit.b, emit.loc, x, i32(~0x1fff)); };
    auto split = [&](Value x) {
      Value high = cut(arith::AddIOp::create(emit.b, emit.loc, bits(x), i32(0x1000)));
      Value rest = arith::SubFOp::create(emit.b, emit.loc, x,
                                         arith::BitcastOp::create(emit.b, emit.loc, emit.b.getF32Type(), high));
      return std::pair{high, cut(bits(rest))};
    };
    Four high, low;
    for (int at = 0; at < 4; ++at) std::tie(high[at], low[at]) = split(a[at]);
    auto [high0, low0] = split(b0);
    auto [high1, low1] = split(b1);
    Value step[4];
    std::fill(std::begin(step), std::end(step), emit.constantF(0));
    mma(step, low, high0, high1);
    mma(step, high, low0, low1);
    mma(step, high, high0, high1);
    for (int at = 0; at < 4; ++at) sums[at] = arith::AddFOp::create(emit.b, emit.loc, sums[at], step[at]);
  }
};

}  // namespace

void lower(KernelCode &code, cta::MmaOp op) {
  Registers result;
  if (cta::isWgmma(op.getKind())) {
    result = lowerWgmma(code, op);
    code.registers[op.getResult()] = std::move(result);
    return;
  }
  Product product(code, op);
  switch (op.getForm()) {
    case tile::DotForm::NT: result = product.nt(code.buffer(op.getLhs())); break;
    case tile::DotForm::NN:
      result = product.nn(product.half() ? code.packed(op.getLhs(), op.getRhs().getType().getElement())
                                         : code.registersOf(op.getLhs()),
                          KernelCode::shapeOf(op.getLhs())[1]);
      break;
    case tile::DotForm::TN: result = product.tn(code.buffer(op.getLhs())); break;
  }
  code.registers[op.getResult()] = std::move(result);
}

void lower(KernelCode &code, cta::StoreSharedOp op) {
  Emitter &emit = code.emit;
  const SharedTile tile = code.buffer(op.getBuffer());
  const Registers &own = code.registersOf(op.getTile());
  const bool packed = KernelCode::isPacked(op.getTile());
  const int64_t tiles = tile.columns() / 8;
  for (int64_t block = 0; block < code.thread.blocks(tile.rows()); ++block)
    for (int64_t n = 0; n < tiles; ++n)
      for (int h = 0; h < 2; ++h) {
        const int64_t pair = (block * tiles + n) * 2 + h;
        // f32: of eight columns the even come first, then the odd.
        Value byte = tile.half() ? emit.mul(emit.toI32(code.thread.column(n, 0)), emit.i32(2))
                                 : emit.mul(emit.add(code.thread.quad, emit.i32(8 * n)), emit.i32(4));
        Value to = emit.at(tile.base, tile.offsetOf(emit, emit.toI32(code.thread.row(block, h)), byte),
                           emit.b.getIntegerType(8));
        if (tile.half()) {
          emit.store(packed ? own[pair] : code.pack(tile.type.getElement(), own[2 * pair], own[2 * pair + 1]), to, 4);
        } else {
          emit.store(own[2 * pair], to, 4);
          emit.store(own[2 * pair + 1], emit.at(to, 4), 4);
        }
      }
}

}  // namespace weft::nvptx
