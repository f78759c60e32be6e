// What the warps of a CTA do together: tiles in shared memory, matrix fragments, products, shuffles.
//
// A fragment of a [rows][columns] tile lies in the layout of mma.m16n8 accumulators: warp w holds the blocks of
// 16 rows w, w + W, ...; in a block the thread with lane = 4 g + t holds, of each 8 columns, the elements
// (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1). Row values lie with them: rows g and g + 8 of each block.
#pragma once

#include <functional>

#include "compiler/target/emitter.h"
#include "compiler/target/plan_region.h"

namespace weft::nvptx {

using target::Emitter;
using target::Value;

/// A tile of the operand type in shared memory. Rows are an odd number of 16-byte chunks apart, so that the
/// eight rows of an ldmatrix, and the threads of the loads below, fall into different banks.
struct SharedTile {
  int64_t rows = 0, columns = 0;
  int64_t padded = 0;  ///< columns up to a whole step of a product; those past `columns` are zero
  int64_t pitch = 0;   ///< bytes from row to row
  Value base;          ///< ptr in shared memory
};

class Warp {
 public:
  Warp(Emitter &emit, ElementType type, int warps) : type(type), warps(warps), emit(emit) {}

  /// Reads the thread's coordinates at the insertion point; call once, at the kernel's start.
  void begin(Value shared);

  const ElementType type;
  const int warps;
  int threads() const { return 32 * warps; }
  Value thread, group, quad;  ///< i32: number in the CTA; lane / 4; lane % 4

  int64_t bytes() const { return type == ElementType::F32 ? 4 : 2; }
  int64_t blocks(int64_t rows) const { return rows / (16 * warps); }
  /// Runs body() with coordinates of its own: what follows from them is not computed ahead of a loop around.
  template <class Body>
  auto withOwnCoordinates(Body body) {
    const Value saved[] = {group, quad, warp};
    group = anchored(group);
    quad = anchored(quad);
    warp = anchored(warp);
    auto result = body();
    group = saved[0];
    quad = saved[1];
    warp = saved[2];
    return result;
  }

  /// i64 row of register row `half` (0 or 1) of block `block`.
  Value row(int64_t block, int half);
  /// i64 column of element `e` (0 to 3) of the 8 columns `tile`.
  Value column(int64_t tile, int e);

  // Shared memory
  /// `dynamic` bytes of it are in use.
  /// This warp's threads, for a program that they share.
  target::Lanes lanes();
  int64_t sharedBytes() const { return most; }
  /// Shared memory taken since then is free again: what comes next may lie there, after a barrier.
  int64_t mark() const { return used; }
  void release(int64_t mark) { used = mark; }
  SharedTile sharedTile(int64_t rows, int64_t columns);
  SharedTile at(SharedTile tile, Value byteOffset);
  int64_t bytesOf(const SharedTile &tile) const { return tile.rows * tile.pitch; }
  /// Starts the copy of rows of a global tensor; rows from `valid` (i64) on become zero.
  /// Row r lies `stride` elements times r, or offsetOf(r) bytes, after `source`.
  void copyAsync(const SharedTile &tile, Value source, Value stride, Value valid,
                 const std::function<Value(Value)> &offsetOf = nullptr);
  void commit();
  void waitFor(int groupsLeft);
  void barrier();
  /// Stores a fragment, in the operand type, for multiplyTN to read as its a.
  void store(const SharedTile &tile, llvm::ArrayRef<Value> fragment);

  // Products, added to `sums` (a fragment)
  /// a[m][k] b[n][k]
  void multiplyNT(std::vector<Value> &sums, const SharedTile &a, const SharedTile &b);
  /// a[m][k] b[k][n], a in registers
  void multiplyNN(std::vector<Value> &sums, llvm::ArrayRef<Value> a, int64_t depth, const SharedTile &b);
  /// a[k][m] b[k][n]
  void multiplyTN(std::vector<Value> &sums, const SharedTile &a, const SharedTile &b);

  /// The value of the thread whose lane differs in the bits of `mask`.
  Value exchange(Value value, int mask);
  /// Combines over the four threads that hold a row.
  Value reduceRow(Value value, bool max);
  /// Adds over the eight threads of the warp that hold a column.
  Value addColumn(Value value);

  Value call(const char *intrinsic, mlir::Type result, llvm::ArrayRef<Value> args);

 private:
  Emitter &emit;
  Value shared, warp, lane;
  Value pairRow, pairColumn;    ///< ldmatrix: rows by bit 3 of the lane, columns by bit 4
  Value crossRow, crossColumn;  ///< ldmatrix: the other way round
  int64_t used = 0, most = 0;

  enum class Order { Pair, Cross };
  using Four = std::array<Value, 4>;
  Value i32(int64_t value) { return emit.i32(value); }
  bool half() const { return type != ElementType::F32; }
  Value blockRow(int64_t block);
  Four matrices(const SharedTile &tile, Value rowOffset, int64_t row, int64_t column, Value columnOffset, Order order,
                bool transposed);
  Value element(const SharedTile &tile, Value row, Value column);
  Value anchored(Value value);  ///< 32 bits
  SharedTile anchored(SharedTile tile);
  Value pack(Value low, Value high);
  void mma(Value *sums, const Four &a, Value b0, Value b1);
  void mmaSplit(Value *sums, const Four &a, Value b0, Value b1);
  template <class LoadA, class LoadB>
  void multiply(std::vector<Value> &sums, int64_t blocks, int64_t depth, LoadA loadA, LoadB loadB);
  std::vector<Value> unpackStruct(Value value, int count);
};

}  // namespace weft::nvptx
