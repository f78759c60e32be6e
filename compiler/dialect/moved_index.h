// Indices into a call's piece of a longer sequence (see compiler/origin.h).
#pragma once

#include "compiler/dialect/dialects.h"
#include "compiler/origin_dims.h"
#include "mlir/Dialect/Arith/IR/Arith.h"

namespace weft::dialect {

/// Which indices of a read are ones of the whole sequence taken back to the piece: 1: those into T, 2: those into S.
inline int movedIndices(ReadOp op) {
  auto attr = op->getAttrOfType<mlir::IntegerAttr>("weft.moved");
  return attr ? static_cast<int>(attr.getInt()) : 0;
}
inline void setMovedIndices(ReadOp op, int sides) {
  op->setAttr("weft.moved", mlir::Builder(op).getI32IntegerAttr(sides));
}

/// The query's index in the piece, of that in the whole sequence; null for anything else.
inline mlir::Value ownIndex(mlir::Value index) {
  auto sum = index.getDefiningOp<mlir::arith::AddIOp>();
  auto first = sum ? sum.getRhs().getDefiningOp<DimOp>() : DimOp();
  return first && first.getDim() == originDims[0] ? sum.getLhs() : mlir::Value();
}

}  // namespace weft::dialect
