// The code of one thread of a kernel while it is written: what each value of the kernel has become, and a function for
// each operation, in files by what they are about.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "compiler/dialect/cta.h"
#include "compiler/internal_error.h"
#include "compiler/kernel_image.h"
#include "compiler/target/kept_tiles.h"
#include "compiler/target/nvptx/copies.h"
#include "compiler/target/nvptx/mbarriers.h"
#include "compiler/target/nvptx/thread.h"
#include "compiler/target/scalar_program.h"
#include "compiler/target/scalar_region.h"

namespace weft::nvptx {

/// A tile in shared memory, and how it lies there.
struct SharedTile {
  cta::SharedType type;
  Value base;  ///< pointer in shared memory

  int64_t rows() const { return type.rows(); }
  int64_t columns() const { return type.columns(); }
  int64_t pitch() const { return type.pitch(); }
  int64_t elementBytes() const { return type.getElement().getIntOrFloatBitWidth() / 8; }
  /// Columns up to a whole step of a product; those past `columns` are zero.
  int64_t padded() const { return (columns() + 15) / 16 * 16; }
  bool half() const { return elementBytes() == 2; }
  /// Where the byte `byte` of row `row` is, after the base (i32).
  Value offsetOf(Emitter &emit, Value row, Value byte) const;
};

/// A buffer that one role fills and the other reads (cta.ring).
struct Ring {
  SharedTile buffer;
  std::string tensor;
  Value barriers;    ///< i32: where in shared memory its mbarriers are
  Value words;       ///< i32: and what it carries; null: nothing
  int64_t map = -1;  ///< which of the kernel's tensor maps, by which one thread copies a tile (TMA); -1: threads do

  /// Lines of one number a row, which a warp copies.
  bool isNumbers() const { return !buffer.type.isSwizzled(); }
  /// All of the producer's threads copy shares of a tile.
  bool isShared() const { return !isNumbers() && map < 0; }
};

/// Numbers that the producer's first thread hands to others, one after another.
struct Numbers {
  int64_t stages;         ///< that may be on their way
  Value barriers, words;  ///< i32: where in shared memory
  Cursor cursor;          ///< of the role that is being written
};

/// The tensor map by which the ring's tiles can be copied; none of rows that lie anywhere, and of lines of numbers.
std::optional<TensorMapSlot> mapOf(const target::KernelArguments &slots, cta::RingOp ring);

/// Registers of a tile or of a number a row: those of a block of 16 rows after those of the one before; of a block,
/// four of each 8 columns, or two (see #cta.mma_sync).
using Registers = std::vector<Value>;

struct KernelCode {
  KernelCode(mlir::ModuleOp module, tile::KernelOp kernel);

  tile::KernelOp kernel;
  const int64_t tileQ, tileK;
  mlir::OpBuilder builder;
  Emitter emit;
  target::KernelArguments slots;
  llvm::DenseMap<Value, Value> scalars;
  target::ScalarProgram plan;
  Thread thread;
  Value sharedBase;  ///< of all shared memory
  bool hasRoles = false;
  std::optional<Numbers> given;             ///< of cta.give
  Value programs;                           ///< i64: of the grid
  std::function<void(Value)> enterProgram;  ///< what belongs to the program of that number is that of the code to come
  int64_t residents = 1;                    ///< blocks that an SM is to hold at once
  std::vector<TensorMapSlot> maps;          ///< of tensors that a producer copies by TMA
  Value arguments;                          ///< !llvm.ptr: the maps, then the slots
  mlir::Block *entry = nullptr;             ///< of the function

  llvm::DenseMap<Value, Registers> registers;
  llvm::DenseMap<Value, SharedTile> buffers;
  llvm::DenseMap<Value, target::KeptTiles> keptTiles;
  llvm::DenseMap<Value, Ring> rings;
  llvm::DenseMap<Value, Cursor> cursors;

  /// The code of an operation at the insertion point.
  void lower(mlir::Operation &op);
  void lower(mlir::Block &block) {
    for (mlir::Operation &op : block) lower(op);
  }

  Value scalar(Value value);
  Threads allThreads() { return {thread.number, thread.threads()}; }
  /// Of the role that copies.
  Threads producers() { return {emit.sub(thread.number, emit.i32(thread.threads())), producerThreads, true}; }
  /// Without results, in its place among accesses to memory; see inlinePtx.
  void ptx(const std::string &text, const std::string &constraints, mlir::ValueRange operands);
  /// Products of warpgroups see what this thread has written to shared memory (cta.fence_async).
  void fenceAsync();
  /// Where an operation that copies rows finds them.
  template <class Op>
  Rows rowsOf(llvm::StringRef tensor, Op op) {
    return {tensor.str(), scalar(op.getBatch()), scalar(op.getHead()), scalar(op.getIndex())};
  }
  Registers &registersOf(Value tile);
  const SharedTile &buffer(Value value);
  /// How many registers a value of the type takes, of f32.
  int64_t count(mlir::Type type) const;
  int64_t count(Value tile) const { return count(tile.getType()) / (isPacked(tile) ? 2 : 1); }
  /// Gives values that follow one after another to the tiles they belong to.
  void spread(mlir::ValueRange tiles, llvm::ArrayRef<Value> values);
  /// The 16-bit type in which pairs of neighbouring columns share a register: of pairs' results that only products
  /// read, from registers or from shared memory; null: they do not.
  static mlir::Type packedType(Value tile);
  static bool isPacked(Value tile) { return packedType(tile) != nullptr; }
  /// The registers of a left side of products of 16-bit types: two of each 8 columns of a block.
  Registers packed(Value tile, mlir::Type element);
  /// Two floats to one register of halves, the first in the low part.
  Value pack(mlir::Type element, Value low, Value high);
  static llvm::ArrayRef<int64_t> shapeOf(Value value) {
    return mlir::cast<mlir::RankedTensorType>(value.getType()).getShape();
  }
  /// Groups of 8 columns, an even number.
  static int64_t columnTiles(int64_t columns) { return (columns + 15) / 16 * 2; }

  Value select(Value condition, Value yes, Value no) {
    return mlir::arith::SelectOp::create(builder, emit.loc, condition, yes, no);
  }
  Value both(Value x, Value y) { return mlir::arith::AndIOp::create(builder, emit.loc, x, y); }
  /// A coordinate is inside its dim; both fit in 32 bits.
  Value below(Value coordinate, const std::string &dim) {
    return emit.less(emit.toI32(coordinate), emit.toI32(slots.dim(dim)));
  }
  /// A row is one of its (b, h); it fits in 32 bits.
  Value isRow(Value row) { return emit.less(emit.toI32(row), emit.toI32(slots.rows())); }
  /// Where the number of a row is after that of row 0, in a contiguous [B, H, T] tensor.
  Value numberAt(Value row) { return slots.headRows() ? emit.mul(row, slots.dim("T")) : row; }
  /// slots.keyAt, also past the end of the list.
  std::pair<Value, Value> keyAt(Value n);
  void atomicAdd(Value pointer, Value value);
  /// To two floats side by side, at an address of 8 bytes: sm_90.
  void atomicAddPair(Value pointer, Value first, Value second);
  /// partial[b, h, i] += value, by the one thread of the CTA that owns the row; atomically, where programs are of keys.
  void addToRow(dialect::AccumulateOp sum, Value value, const target::RegionContext &context, Value i);
  /// b * H + h
  Value headRow(const target::RegionContext &context);

  /// body(block, half, row): once for each row that a thread holds.
  template <class Body>
  void eachRow(int64_t rows, Body body) {
    for (int64_t block = 0; block < thread.blocks(rows); ++block)
      for (int half = 0; half < 2; ++half) body(block, half, thread.row(block, half));
  }
};

// copies.cpp
void lower(KernelCode &code, cta::CopyAsyncOp op);
void lower(KernelCode &code, cta::CopyRowsAsyncOp op);
// rings.cpp
void lower(KernelCode &code, cta::RingOp op);
void lower(KernelCode &code, cta::AdvanceOp op);
void lower(KernelCode &code, cta::FillOp op);
void lower(KernelCode &code, cta::AcquireOp op);
void lower(KernelCode &code, cta::CarriedOp op);
void lower(KernelCode &code, cta::ReleaseOp op);
// roles.cpp
void lower(KernelCode &code, cta::RolesOp op);
void lower(KernelCode &code, cta::GiveOp op);
void lower(KernelCode &code, cta::TakeOp op);
void lower(KernelCode &code, cta::TakeTurnOp op);
void lower(KernelCode &code, cta::PassTurnOp op);
// shared_memory.cpp
void lower(KernelCode &code, cta::AllocOp op);
void lower(KernelCode &code, cta::StageOp op);
void lower(KernelCode &code, cta::CommitGroupOp op);
void lower(KernelCode &code, cta::WaitGroupOp op);
void lower(KernelCode &code, cta::BarrierOp op);
void lower(KernelCode &code, cta::FenceAsyncOp op);
// products.cpp, warpgroup_products.cpp
void lower(KernelCode &code, cta::StoreSharedOp op);
void lower(KernelCode &code, cta::MmaOp op);
Registers lowerWgmma(KernelCode &code, cta::MmaOp op);
void lower(KernelCode &code, cta::WaitMmaOp op);
// loops.cpp
void lower(KernelCode &code, cta::KeptTilesOp op);
void lower(KernelCode &code, cta::TurnsOp op);
void lower(KernelCode &code, cta::TurnOp op);
void lower(KernelCode &code, tile::ForOp op);
void lower(KernelCode &code, mlir::scf::ForOp op);
void lower(KernelCode &code, mlir::scf::IfOp op);
// pairwise.cpp
void lower(KernelCode &code, tile::PairwiseOp op);
// rows.cpp: what is done row by row
void lower(KernelCode &code, tile::FillOp op);
void lower(KernelCode &code, tile::LoadRowsOp op);
void lower(KernelCode &code, tile::ScaleOp op);
void lower(KernelCode &code, tile::ScaleRowsOp op);
void lower(KernelCode &code, tile::AddPartsOp op);
void lower(KernelCode &code, tile::BelowPeakOp op);
void lower(KernelCode &code, tile::ScanSumOp op);
void lower(KernelCode &code, tile::RowwiseOp op);
void lower(KernelCode &code, cta::RowDotOp op);
// stores.cpp
void lower(KernelCode &code, tile::StoreOp op);
void lower(KernelCode &code, tile::StoreRowsOp op);
void lower(KernelCode &code, cta::AddRowsOp op);

}  // namespace weft::nvptx
