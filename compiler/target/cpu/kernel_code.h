// The code of a CPU's kernel while it is written: what each value of the kernel has become, and a function for each
// operation, in files by what they are about.
//
// Logits lie transposed, [key][query]: queries fill the lanes of a register. Row maxima and sums are then lane-wise,
// keys and values are broadcast from where they are in memory, and only the query side is ever packed, once a query
// tile.
#pragma once

#include "compiler/internal_error.h"
#include "compiler/target/cpu/amx.h"
#include "compiler/target/plan_region.h"
#include "compiler/target/scalar_region.h"

namespace weft::cpu {

namespace arith = mlir::arith;
namespace vector = mlir::vector;

/// A strided f32 matrix in memory: element (r, c) at base[r * stride + c].
struct Matrix {
  Value base;    ///< !llvm.ptr
  Value stride;  ///< i64, elements
};

/// How a tile value lives in memory: f32, and with AMX bf16 in the arrangements its products take.
struct Buffer {
  enum class Kind {
    Operand,     ///< rows of an input: natural [row][column], and packed [column][row] for queries
    Transposed,  ///< [column][query]: logits, query-side accumulators
    Natural,     ///< [row][column]: key-side accumulators
    Rows,        ///< one f32 a query
  };
  Kind kind = Kind::Rows;
  Matrix natural;
  Value packed;     ///< Operand of queries: [column][query]
  Value memory;     ///< Transposed, Natural, Rows
  Value validRows;  ///< Operand: rows inside the tensor (i64)
  int64_t rows = 0, columns = 0;
  Amx::Operand amxRows, amxTransposed;       ///< Operand of keys
  Amx::Operand amxColumnPairs, amxRowPairs;  ///< Operand of queries
};

struct KernelCode {
  /// `blockRows`: rows of a register block of products.
  KernelCode(mlir::ModuleOp module, tile::KernelOp kernel, const Machine &machine, int blockRows);

  tile::KernelOp kernel;
  const int64_t tileQ, tileK;
  const int blockRows;
  bool useAmx = false;
  mlir::OpBuilder builder;
  Emitter emit;
  target::Slots slots;
  llvm::DenseMap<Value, Value> scalars;  ///< i32 / i1 / f32 of the kernel to i64 / i1 / f32
  Amx amx;
  target::PlanRegion plan;
  Value scratch;  ///< this thread's
  int64_t scratchFloats = 0;
  llvm::DenseMap<Value, Buffer> buffers;

  /// The code of an operation at the insertion point.
  void lower(mlir::Operation &op);
  void lower(mlir::Block &block) {
    for (mlir::Operation &op : block) lower(op);
  }

  /// `floats` of this thread's scratch memory, 64-byte aligned.
  Value allocate(int64_t floats);
  Buffer rowBuffer();
  Buffer transposedBuffer(int64_t columns);

  Value scalar(Value value);
  Buffer &buffer(Value tile);
  static llvm::ArrayRef<int64_t> shapeOf(Value value) {
    return mlir::cast<mlir::RankedTensorType>(value.getType()).getShape();
  }
  /// partial[b, h, i] += value
  void addToRow(dialect::AccumulateOp sum, Value value, const target::RegionContext &context);
};

// lower_loads.cpp
void lower(KernelCode &code, tile::LoadOp op);
void lower(KernelCode &code, tile::LoadRowsOp op);
// lower_products.cpp
void lower(KernelCode &code, tile::DotOp op);
void lower(KernelCode &code, tile::DotIntoOp op);
// lower_loops.cpp
void lower(KernelCode &code, tile::ForOp op);
// lower_pairwise.cpp
void lower(KernelCode &code, tile::PairwiseOp op);
// lower_rows.cpp: what is done query by query
void lower(KernelCode &code, tile::FillOp op);
void lower(KernelCode &code, tile::ScaleRowsOp op);
void lower(KernelCode &code, tile::ScanSumOp op);
void lower(KernelCode &code, tile::RowwiseOp op);
void lower(KernelCode &code, tile::RowDotOp op);
// lower_stores.cpp
void lower(KernelCode &code, tile::StoreOp op);
void lower(KernelCode &code, tile::StoreRowsOp op);

}  // namespace weft::cpu
