// What kernels over tiles as wholes (plans and selections) are built from: coordinates, boxes of pairs, flat buffers.
#pragma once

#include "compiler/kernel_image.h"
#include "compiler/transforms/build_kernels.h"
#include "compiler/transforms/intervals.h"
#include "compiler/transforms/signature.h"
#include "llvm/ADT/STLExtras.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

namespace weft {

class PlanKernel {
 public:
  /// `keyDim`: of which keys.
  PlanKernel(mlir::ModuleOp module, int tileQ, int tileK, std::string keyDim = "S")
      : tileQ(tileQ),
        tileK(tileK),
        builder(module.getContext()),
        s(builder, builder.getUnknownLoc(), Ints::Exact),
        module(module),
        keyDim(std::move(keyDim)),
        program(module.lookupSymbol<dialect::PairwiseOp>(ofKeys("forward", this->keyDim))) {}

 protected:
  using Value = mlir::Value;

  int tileQ, tileK;
  mlir::OpBuilder builder;
  ScalarBuilder s;  ///< of positions and offsets
  mlir::ModuleOp module;
  std::string keyDim;
  dialect::PairwiseOp program;

  /// `queryTilesEach`: tiles of queries of one program.
  mlir::Block *begin(const std::string &name, tile::Grid grid, int arguments, int queryTilesEach = 1) {
    builder.setInsertionPointToEnd(module.getBody());
    auto kernel = tile::KernelOp::create(builder, s.loc, (module.getName().value_or("variant") + "." + name).str(),
                                         grid, tileQ * queryTilesEach, tileK, keyDim, tile::Order::Tiles,
                                         describedRows(module), tile::ListedKeysAttr());
    mlir::Block *entry = builder.createBlock(&kernel.getBody());
    for (int at = 0; at < arguments; ++at) entry->addArgument(builder.getI32Type(), s.loc);
    return entry;
  }

  const tile::Rows rows = describedRows(module);
  /// Rows of one (b, h) of the kernel's programs, and how many h there are.
  Value rowCount() {
    if (rows == tile::Rows::Queries) return dim("T");
    return rows == tile::Rows::Heads ? quotient(dim("H"), dim("G")) : s.constantInt(1);
  }
  Value headCount() { return dim(rows == tile::Rows::Heads ? "G" : "H"); }

  Value dim(llvm::StringRef name) { return dialect::DimOp::create(builder, s.loc, builder.getI32Type(), name); }
  Value quotient(Value a, Value b) { return mlir::arith::DivSIOp::create(builder, s.loc, a, b); }
  Value quotient(Value a, int b) { return b == 1 ? a : quotient(a, s.constantInt(b)); }
  Value tiles(Value extent, int tile) { return quotient(s.add(extent, s.constantInt(tile - 1)), tile); }
  Value both(Value a, Value b) { return s.map(Function::And, {a, b}); }
  Value either(Value a, Value b) { return s.map(Function::Or, {a, b}); }
  Value negate(Value a) { return s.map(Function::Not, {a}); }

  /// First and last position of a tile.
  Interval box(Value index, int tile, Value extent) {
    Value first = s.mul(index, s.constantInt(tile));
    Value last = s.map(Function::Min, {s.add(first, s.constantInt(tile - 1)), s.sub(extent, s.constantInt(1))});
    return Interval{first, last, s.constantBool(false), {}};
  }

  Value load(llvm::StringRef buffer, Value index, mlir::Type type) {
    return tile::LoadFlatOp::create(builder, s.loc, type, buffer, index);
  }
  Value append(Value value, Value kept, llvm::StringRef buffer, Value index) {
    return tile::AppendOp::create(builder, s.loc, builder.getI32Type(), value, kept, buffer, index);
  }
  void store(Value value, llvm::StringRef buffer, Value index) {
    tile::StoreFlatOp::create(builder, s.loc, value, buffer, index);
  }

  /// A loop over [from, to) that carries values: body(index, carried) gives the next ones. `independent` says that its
  /// turns are  independent, and how carried values combine (see TileOps.td).
  template <class Body>
  std::vector<Value> loop(Value from, Value to, mlir::ValueRange inits, Body body,
                          std::optional<tile::Independent> independent = {}) {
    auto op = mlir::scf::ForOp::create(builder, s.loc, from, to, s.constantInt(1), inits);
    if (independent)
      op->setAttr(tile::independentTurns, tile::IndependentAttr::get(builder.getContext(), *independent));
    mlir::OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(op.getBody());
    std::vector<Value> next = body(op.getInductionVar(), mlir::ValueRange(op.getRegionIterArgs()));
    if (!next.empty()) mlir::scf::YieldOp::create(builder, s.loc, next);
    return {op.getResults().begin(), op.getResults().end()};
  }
  template <class Body>
  void when(Value condition, Body body) {
    auto branch = mlir::scf::IfOp::create(builder, s.loc, condition, false);
    mlir::OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(branch.thenBlock());
    body();
  }
};

}  // namespace weft
