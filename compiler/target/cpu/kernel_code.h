// The code of a CPU's kernel while it is written: what each value of the kernel has become, and a function for each
// operation, in files by what they are about.
//
// Logits lie transposed, [key][query]: queries fill the lanes of a register. Row maxima and sums are then lane-wise,
// keys and values are broadcast from where they are in memory, and only the query side is ever packed, once a query
// tile.
#pragma once

#include "compiler/dialect/cpu.h"
#include "compiler/internal_error.h"
#include "compiler/target/cpu/amx.h"
#include "compiler/target/scalar_program.h"
#include "compiler/target/scalar_region.h"

namespace weft::cpu {

namespace arith = mlir::arith;
namespace vector = mlir::vector;

/// A tile in memory; the type of its value says how it lies there.
struct Tile {
  Value base;         ///< !llvm.ptr
  Value stride = {};  ///< strided and rows: i64, elements
  Value valid = {};   ///< of an operand: rows inside its tensor, i64
};

struct KernelCode {
  /// `blockRows`: rows of a register block of products.
  KernelCode(mlir::ModuleOp module, tile::KernelOp kernel, const Machine &machine, int blockRows);

  tile::KernelOp kernel;
  const int64_t tileQ, tileK;
  const int blockRows;
  mlir::OpBuilder builder;
  Emitter emit;
  target::KernelArguments slots;
  llvm::DenseMap<Value, Value> scalars;  ///< i32 / i1 / f32 of the kernel to i64 / i1 / f32
  Halves halves;
  const bool usesAmx;
  Amx amx;
  target::ScalarProgram plan;
  Value scratch;  ///< this thread's
  llvm::DenseMap<Value, Tile> tiles;

  /// The code of an operation at the insertion point.
  void lower(mlir::Operation &op);
  void lower(mlir::Block &block) {
    for (mlir::Operation &op : block) lower(op);
  }

  /// Among other work between products: see Amx::stayAwake.
  void stayAwake() {
    if (usesAmx) amx.stayAwake();
  }
  /// The place of an operation's result, as assign-scratch has set it.
  Value place(mlir::OpResult result);
  Value scalar(Value value);
  /// Queries of the tile of a program over them, i64.
  Value queries();
  Tile &tile(Value value);
  static llvm::ArrayRef<int64_t> shapeOf(Value value) {
    return mlir::cast<mlir::RankedTensorType>(value.getType()).getShape();
  }
  /// Numbers of rows from the `first` one (i64) on, a lane each, of a contiguous [B, H, T] tensor; `row`: of row 0.
  Value loadNumbers(Value row, Value first, Value mask, Value fill);
  void storeNumbers(Value numbers, Value row, Value first, Value mask);
  /// partial[b, h, i] += value
  void addToRow(dialect::AccumulateOp sum, Value value, const target::RegionContext &context);

 private:
  Value pointersTo(Value row, Value first);
};

// lower_loads.cpp
void lower(KernelCode &code, ViewOp op);
void lower(KernelCode &code, GatherOp op);
void lower(KernelCode &code, tile::LoadRowsOp op);
// lower_packs.cpp
void lower(KernelCode &code, ConvertOp op);
void lower(KernelCode &code, PackOp op);
void lower(KernelCode &code, PadOp op);
void lower(KernelCode &code, RoundOp op);
void lower(KernelCode &code, EmptyOp op);
// lower_products.cpp
void lower(KernelCode &code, ProductOp op);
void lower(KernelCode &code, ProductIntoOp op);
// lower_loops.cpp
void lower(KernelCode &code, tile::ForOp op);
// lower_pairwise.cpp
void lower(KernelCode &code, tile::PairwiseOp op);
// lower_rows.cpp: what is done query by query
void lower(KernelCode &code, tile::FillOp op);
void lower(KernelCode &code, tile::ScaleOp op);
void lower(KernelCode &code, tile::ScaleRowsOp op);
void lower(KernelCode &code, tile::ScanSumOp op);
void lower(KernelCode &code, tile::RowwiseOp op);
void lower(KernelCode &code, tile::RowDotOp op);
// lower_stores.cpp
void lower(KernelCode &code, tile::StoreOp op);
void lower(KernelCode &code, tile::StoreRowsOp op);

}  // namespace weft::cpu
