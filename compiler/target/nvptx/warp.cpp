#include "compiler/target/nvptx/warp.h"

#include <array>

#include "compiler/target/nvptx/shared_memory.h"

namespace weft::nvptx {

namespace arith = mlir::arith;
namespace llvmir = mlir::LLVM;

Value Warp::call(const char *intrinsic, mlir::Type result, llvm::ArrayRef<Value> args) {
  if (!result) {
    llvmir::CallIntrinsicOp::create(emit.b, emit.loc, emit.b.getStringAttr(intrinsic), args);
    return {};
  }
  return llvmir::CallIntrinsicOp::create(emit.b, emit.loc, result, emit.b.getStringAttr(intrinsic), args).getResult(0);
}

std::vector<Value> Warp::unpackStruct(Value value, int count) {
  std::vector<Value> parts;
  for (int64_t at = 0; at < count; ++at)
    parts.push_back(llvmir::ExtractValueOp::create(emit.b, emit.loc, value, llvm::ArrayRef<int64_t>{at}));
  return parts;
}

void Warp::begin(Value base) {
  shared = base;
  thread = call("llvm.nvvm.read.ptx.sreg.tid.x", emit.b.getI32Type(), {});
  auto shift = [&](Value x, int by) { return Value(arith::ShRUIOp::create(emit.b, emit.loc, x, i32(by))); };
  auto bits = [&](Value x, int mask) { return Value(arith::AndIOp::create(emit.b, emit.loc, x, i32(mask))); };
  warp = shift(thread, 5);
  lane = bits(thread, 31);
  group = shift(lane, 2);
  quad = bits(lane, 3);
  Value inner = bits(lane, 7), low = bits(lane, 8), high = shift(bits(lane, 16), 1);
  pairRow = emit.add(inner, low);
  pairColumn = high;
  crossRow = emit.add(inner, high);
  crossColumn = low;
}

Value Warp::blockRow(int64_t block) { return emit.mul(emit.add(warp, i32(block * warps)), i32(16)); }
Value Warp::row(int64_t block, int half) {
  // The constant last, and outside: each use is then one addition, in 32 bits where that is enough.
  return emit.add(emit.toI64(emit.add(emit.mul(warp, i32(16)), group)), emit.i64(16 * block * warps + 8 * half));
}
Value Warp::column(int64_t tile, int e) {
  return emit.add(emit.toI64(emit.mul(quad, i32(2))), emit.i64(8 * tile + (e & 1)));
}

// ---- shared memory ---------------------------------------------------------------------------

SharedTile Warp::sharedTile(int64_t rows, int64_t columns) {
  SharedTile tile;
  tile.rows = rows;
  tile.columns = columns;
  tile.padded = (columns + 15) / 16 * 16;
  tile.pitch = sharedPitch(columns, type);
  tile.base = emit.at(shared, i32(used), emit.b.getIntegerType(8));
  used += rows * tile.pitch;
  most = std::max(most, used);
  return tile;
}

SharedTile Warp::at(SharedTile tile, Value byteOffset) {
  tile.base = emit.at(tile.base, byteOffset, emit.b.getIntegerType(8));
  return tile;
}

void Warp::copyAsync(const SharedTile &tile, Value source, Value stride, Value valid,
                     const std::function<Value(Value)> &offsetOf) {
  const int64_t rowBytes = tile.columns * bytes();
  const int64_t chunk = rowBytes % 16 == 0 ? 16 : rowBytes % 8 == 0 ? 8 : rowBytes % 4 == 0 ? 4 : 2;
  const int64_t chunks = tile.padded * bytes() / chunk, total = tile.rows * chunks;
  mlir::Type byte = emit.b.getIntegerType(8);
  Value strideBytes = emit.mul(stride, emit.i64(bytes()));
  // Eight threads in a row write eight chunks of one row or, where rows are narrower, of eight rows.
  const bool byRow = chunks % 8 == 0;
  const int64_t inner = byRow ? chunks : tile.rows;
  // Where whole rows (or columns) of chunks lie between a thread's chunks, each address follows from the last.
  const bool regular = threads() % inner == 0 && !offsetOf;
  Value row, offset, from, to;
  Value own = anchored(thread);
  Value rowStep = emit.mul(strideBytes, emit.i64(threads() / inner));
  for (int64_t first = 0; first < total; first += threads()) {
    if (first == 0 || !regular) {
      Value index = emit.add(own, i32(first));
      Value major = arith::DivUIOp::create(emit.b, emit.loc, index, i32(inner));
      Value minor = arith::RemUIOp::create(emit.b, emit.loc, index, i32(inner));
      row = byRow ? major : minor;
      offset = emit.mul(byRow ? minor : major, i32(chunk));
      Value start = offsetOf ? offsetOf(emit.toI64(row)) : emit.mul(emit.toI64(row), strideBytes);
      from = emit.add(start, emit.toI64(offset));
      to = emit.add(emit.mul(row, i32(tile.pitch)), offset);
    } else if (byRow) {
      row = emit.add(row, i32(threads() / inner));
      from = emit.add(from, rowStep);
      to = emit.add(to, i32(threads() / inner * tile.pitch));
    } else {
      const int64_t step = threads() / inner * chunk;
      offset = emit.add(offset, i32(step));
      from = emit.add(from, emit.i64(step));
      to = emit.add(to, i32(step));
    }
    auto copy = [&] {
      Value inside = emit.less(emit.toI64(row), valid);
      if (tile.padded * bytes() != rowBytes)
        inside = arith::AndIOp::create(emit.b, emit.loc, inside, emit.less(offset, i32(rowBytes)));
      // Where nothing is read the address is the tile's first, which exists.
      Value address = emit.at(source, arith::SelectOp::create(emit.b, emit.loc, inside, from, emit.i64(0)), byte);
      Value place = emit.at(tile.base, to, byte);
      if (chunk == 2) {
        // Too narrow for cp.async.
        mlir::Type i16 = emit.b.getIntegerType(16);
        Value zero = arith::ConstantIntOp::create(emit.b, emit.loc, 0, 16);
        emit.store(arith::SelectOp::create(emit.b, emit.loc, inside, emit.load(i16, address, 2), zero), place, 2);
        return;
      }
      Value size = arith::SelectOp::create(emit.b, emit.loc, inside, i32(chunk), i32(0));
      call(chunk == 16  ? "llvm.nvvm.cp.async.cg.shared.global.16.s"
           : chunk == 8 ? "llvm.nvvm.cp.async.ca.shared.global.8.s"
                        : "llvm.nvvm.cp.async.ca.shared.global.4.s",
           {}, {place, address, size});
    };
    if (first + threads() <= total) copy();
    else emit.when(emit.less(emit.add(thread, i32(first)), i32(total)), copy);
  }
}

void Warp::commit() { call("llvm.nvvm.cp.async.commit.group", {}, {}); }
void Warp::waitFor(int groupsLeft) { call("llvm.nvvm.cp.async.wait.group", {}, {i32(groupsLeft)}); }
void Warp::barrier() { call("llvm.nvvm.barrier.cta.sync.aligned.all", {}, {i32(0)}); }

void Warp::store(const SharedTile &tile, llvm::ArrayRef<Value> fragment) {
  const int64_t tiles = tile.columns / 8;
  for (int64_t block = 0; block < blocks(tile.rows); ++block)
    for (int64_t n = 0; n < tiles; ++n)
      for (int h = 0; h < 2; ++h) {
        const Value *pair = &fragment[(block * tiles + n) * 4 + 2 * h];
        Value rowOffset = emit.mul(emit.toI32(row(block, h)), i32(tile.pitch));
        // f32: of eight columns the even come first, then the odd; 32 threads then write to 32 banks.
        Value columnOffset =
            half() ? emit.mul(emit.toI32(column(n, 0)), i32(2)) : emit.mul(emit.add(quad, i32(8 * n)), i32(4));
        Value to = emit.at(tile.base, emit.add(rowOffset, columnOffset), emit.b.getIntegerType(8));
        if (half()) {
          emit.store(pack(pair[0], pair[1]), to, 4);
        } else {
          emit.store(pair[0], to, 4);
          emit.store(pair[1], emit.at(to, 4), 4);
        }
      }
}

// ---- fragments -------------------------------------------------------------------------------

/// Two floats to one register of halves, the first in the low part.
Value Warp::pack(Value low, Value high) {
  const bool bf16 = type == ElementType::BF16;
  mlir::Type element = bf16 ? mlir::Type(emit.b.getBF16Type()) : mlir::Type(emit.b.getF16Type());
  Value packed =
      call(bf16 ? "llvm.nvvm.ff2bf16x2.rn" : "llvm.nvvm.ff2f16x2.rn", mlir::VectorType::get({2}, element), {high, low});
  return llvmir::BitcastOp::create(emit.b, emit.loc, emit.b.getI32Type(), packed);
}

Warp::Four Warp::matrices(const SharedTile &tile, Value rowOffset, int64_t row, int64_t column, Value columnOffset,
                          Order order, bool transposed) {
  Value r = emit.add(order == Order::Pair ? pairRow : crossRow, i32(row));
  Value c = emit.add(order == Order::Pair ? pairColumn : crossColumn, i32(column));
  if (rowOffset) r = emit.add(r, rowOffset);
  if (columnOffset) c = emit.add(c, columnOffset);
  Value address =
      emit.at(tile.base, emit.add(emit.mul(r, i32(tile.pitch)), emit.mul(c, i32(2))), emit.b.getIntegerType(8));
  mlir::Type word = emit.b.getI32Type();
  mlir::Type result = llvmir::LLVMStructType::getLiteral(emit.b.getContext(), {word, word, word, word});
  auto parts = unpackStruct(call(transposed ? "llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4.trans.b16"
                                            : "llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4.b16",
                                 result, {address}),
                            4);
  return {parts[0], parts[1], parts[2], parts[3]};
}

/// The same value, hidden from LLVM: else each of the many addresses that a loop uses anew in every turn is
/// computed ahead of it and takes a register, where base plus constant offset takes none.
Value Warp::anchored(Value value) {
  return llvmir::InlineAsmOp::create(emit.b, emit.loc, mlir::TypeRange{value.getType()}, mlir::ValueRange{value},
                                     "mov.b32 $0, $1;", "=r,r", /*has_side_effects=*/true, /*is_align_stack=*/false,
                                     llvmir::tailcallkind::TailCallKind::None, llvmir::AsmDialectAttr(),
                                     mlir::ArrayAttr())
      .getResult(0);
}
SharedTile Warp::anchored(SharedTile tile) {
  tile.base = anchored(tile.base);
  return tile;
}

Value Warp::element(const SharedTile &tile, Value row, Value column) {
  Value offset = emit.add(emit.mul(row, i32(tile.pitch)), emit.mul(column, i32(4)));
  return emit.load(emit.b.getF32Type(), emit.at(tile.base, offset, emit.b.getIntegerType(8)), 4);
}

void Warp::mma(Value *sums, const Four &a, Value b0, Value b1) {
  mlir::Type f32 = emit.b.getF32Type();
  mlir::Type result = llvmir::LLVMStructType::getLiteral(emit.b.getContext(), {f32, f32, f32, f32});
  const char *name = "llvm.nvvm.mma.m16n8k8.row.col.tf32";
  if (type == ElementType::BF16) name = "llvm.nvvm.mma.m16n8k16.row.col.bf16";
  if (type == ElementType::F16) name = "llvm.nvvm.mma.m16n8k16.row.col.f32.f32";
  auto operand = [&](Value word) -> Value {
    if (type != ElementType::F16) return word;
    return llvmir::BitcastOp::create(emit.b, emit.loc, mlir::VectorType::get({2}, emit.b.getF16Type()), word);
  };
  llvm::SmallVector<Value> args;
  for (Value word : {a[0], a[1], a[2], a[3], b0, b1}) args.push_back(operand(word));
  args.append(sums, sums + 4);
  auto parts = unpackStruct(call(name, result, args), 4);
  std::copy(parts.begin(), parts.end(), sums);
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
void Warp::mmaSplit(Value *sums, const Four &a, Value b0, Value b1) {
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

/// loadA(block, step) gives the four registers of A; loadB(two n-tiles, step) those of B, two a tile.
template <class LoadA, class LoadB>
void Warp::multiply(std::vector<Value> &sums, int64_t blocks, int64_t depth, LoadA loadA, LoadB loadB) {
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

void Warp::multiplyNT(std::vector<Value> &sums, const SharedTile &left, const SharedTile &right) {
  const SharedTile a = anchored(left), b = anchored(right);
  // f32: thread (g, t) takes the depths t and t + 4.
  auto at = [&](const SharedTile &tile, Value row, int64_t depth) {
    return element(tile, row, emit.add(quad, i32(depth)));
  };
  multiply(
      sums, blocks(a.rows), a.padded,
      [&](int64_t block, int64_t k) -> Four {
        if (half()) return matrices(a, blockRow(block), 0, 16 * k, {}, Order::Pair, false);
        Value low = emit.add(blockRow(block), group), high = emit.add(low, i32(8));
        return {at(a, low, 8 * k), at(a, high, 8 * k), at(a, low, 8 * k + 4), at(a, high, 8 * k + 4)};
      },
      [&](int64_t n, int64_t k) -> Four {
        if (half()) return matrices(b, {}, 8 * n, 16 * k, {}, Order::Cross, false);
        Value first = emit.add(group, i32(8 * n)), second = emit.add(group, i32(8 * n + 8));
        return {at(b, first, 8 * k), at(b, first, 8 * k + 4), at(b, second, 8 * k), at(b, second, 8 * k + 4)};
      });
}

void Warp::multiplyNN(std::vector<Value> &sums, llvm::ArrayRef<Value> a, int64_t depth, const SharedTile &right) {
  const SharedTile b = anchored(right);
  const int64_t tiles = depth / 8, blocks = static_cast<int64_t>(a.size()) / (tiles * 4);
  // f32: thread (g, t) takes the depths 2t and 2t + 1, as fragments have them.
  Value twice = emit.mul(quad, i32(2));
  multiply(
      sums, blocks, depth,
      [&](int64_t block, int64_t k) -> Four {
        if (!half()) {
          const Value *c = &a[(block * tiles + k) * 4];
          return {c[0], c[2], c[1], c[3]};
        }
        const Value *left = &a[(block * tiles + 2 * k) * 4], *right = left + 4;
        return {pack(left[0], left[1]), pack(left[2], left[3]), pack(right[0], right[1]), pack(right[2], right[3])};
      },
      [&](int64_t n, int64_t k) -> Four {
        if (half()) return matrices(b, {}, 16 * k, 8 * n, {}, Order::Pair, true);
        Value even = emit.add(twice, i32(8 * k)), odd = emit.add(even, i32(1));
        Value first = emit.add(group, i32(8 * n)), second = emit.add(group, i32(8 * n + 8));
        return {element(b, even, first), element(b, odd, first), element(b, even, second), element(b, odd, second)};
      });
}

void Warp::multiplyTN(std::vector<Value> &sums, const SharedTile &left, const SharedTile &right) {
  const SharedTile a = anchored(left), b = anchored(right);
  Value twice = emit.mul(quad, i32(2));
  multiply(
      sums, blocks(a.columns), a.rows,
      [&](int64_t block, int64_t k) -> Four {
        if (half()) return matrices(a, {}, 16 * k, 0, blockRow(block), Order::Cross, true);
        Value even = emit.add(twice, i32(8 * k)), odd = emit.add(even, i32(1));
        // As store() has them: column 2c of eight at c, column 2c + 1 at 4 + c.
        Value half = arith::ShRUIOp::create(emit.b, emit.loc, group, i32(1));
        Value parity = arith::AndIOp::create(emit.b, emit.loc, group, i32(1));
        Value place = emit.add(half, emit.mul(parity, i32(4)));
        Value low = emit.add(blockRow(block), place), high = emit.add(low, i32(8));
        return {element(a, even, low), element(a, even, high), element(a, odd, low), element(a, odd, high)};
      },
      [&](int64_t n, int64_t k) -> Four {
        if (half()) return matrices(b, {}, 16 * k, 8 * n, {}, Order::Pair, true);
        Value even = emit.add(twice, i32(8 * k)), odd = emit.add(even, i32(1));
        Value first = emit.add(group, i32(8 * n)), second = emit.add(group, i32(8 * n + 8));
        return {element(b, even, first), element(b, odd, first), element(b, even, second), element(b, odd, second)};
      });
}

// ---- shuffles --------------------------------------------------------------------------------

Value Warp::exchange(Value value, int mask) {
  return call("llvm.nvvm.shfl.sync.bfly.f32", emit.b.getF32Type(), {i32(-1), value, i32(mask), i32(31)});
}
target::Lanes Warp::lanes() {
  mlir::Type i32Type = emit.b.getI32Type();
  target::Lanes lanes;
  lanes.own = lane;
  lanes.exchange = [this, i32Type](Value value, int mask) {
    if (value.getType().isF32()) return exchange(value, mask);
    return call("llvm.nvvm.shfl.sync.bfly.i32", i32Type, {i32(-1), value, i32(mask), i32(31)});
  };
  lanes.ballot = [this, i32Type](Value flag) { return call("llvm.nvvm.vote.ballot.sync", i32Type, {i32(-1), flag}); };
  lanes.meet = [this] { call("llvm.nvvm.bar.warp.sync", mlir::Type(), {i32(-1)}); };
  return lanes;
}
Value Warp::reduceRow(Value value, bool max) {
  for (int distance : {1, 2}) {
    Value other = exchange(value, distance);
    value = max ? Value(arith::MaxNumFOp::create(emit.b, emit.loc, value, other))
                : Value(arith::AddFOp::create(emit.b, emit.loc, value, other));
  }
  return value;
}
Value Warp::addColumn(Value value) {
  for (int distance : {4, 8, 16}) value = arith::AddFOp::create(emit.b, emit.loc, value, exchange(value, distance));
  return value;
}

}  // namespace weft::nvptx
