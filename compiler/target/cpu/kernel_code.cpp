#include "compiler/target/cpu/kernel_code.h"

#include "llvm/ADT/TypeSwitch.h"

namespace weft::cpu {

KernelCode::KernelCode(mlir::ModuleOp module, tile::KernelOp kernel, const Machine &machine, int blockRows)
    : kernel(kernel),
      tileQ(kernel.getTileQ()),
      tileK(kernel.getTileK()),
      blockRows(blockRows),
      builder(module.getContext()),
      emit(builder, machine),
      slots(emit, kernel),
      halves(emit),
      usesAmx(cpu::usesAmx(kernel)),
      amx(emit),
      plan(emit, slots, scalars) {}

void KernelCode::lower(mlir::Operation &op) {
  emit.loc = op.getLoc();
  // A loop copies what its terminator yields; tensors have become slots. The rest is scalar code.
  if (mlir::isa<tile::YieldOp, tile::TensorOp>(op)) return;
  auto lowerOp = [&](auto own) { cpu::lower(*this, own); };
  llvm::TypeSwitch<mlir::Operation *>(&op)
      .Case<ViewOp, GatherOp, ConvertOp, PackOp, PadOp, RoundOp, EmptyOp, ProductOp, ProductIntoOp>(lowerOp)
      .Case<tile::LoadRowsOp, tile::ForOp, tile::PairwiseOp>(lowerOp)
      .Case<tile::FillOp, tile::ScaleOp, tile::ScaleRowsOp>(lowerOp)
      .Case<tile::ScanSumOp, tile::RowwiseOp, tile::RowDotOp>(lowerOp)
      .Case<tile::StoreOp, tile::StoreRowsOp>(lowerOp)
      .Default([&](mlir::Operation *scalarOp) { plan.emitOp(*scalarOp); });
}

Value KernelCode::place(mlir::OpResult result) {
  auto places = result.getOwner()->getAttrOfType<mlir::DenseI64ArrayAttr>(cpu::places);
  internalCheck(places != nullptr, "cpu lowering", "a tile that assign-scratch has not seen");
  return emit.at(scratch, emit.i64(places[result.getResultNumber()] / (emit.real().getWidth() / 8)));
}

Value KernelCode::scalar(Value value) {
  auto found = scalars.find(value);
  internalCheck(found != scalars.end(), "cpu lowering", "scalar without a value");
  return found->second;
}

Value KernelCode::queries() {
  internalCheck(kernel.getGrid() == tile::Grid::Query, "cpu lowering", "queries of another program's tile");
  Value first = emit.mul(scalar(kernel.getBody().front().getArgument(2)), emit.i64(tileQ));
  return emit.min(emit.sub(slots.rows(), first), emit.i64(tileQ));
}

Tile &KernelCode::tile(Value value) {
  auto found = tiles.find(value);
  internalCheck(found != tiles.end(), "cpu lowering", "tile without a place");
  return found->second;
}

/// Numbers of heads lie T apart.
Value KernelCode::pointersTo(Value row, Value first) {
  mlir::Type wide = emit.vectorOf(builder.getI64Type());
  Value lanes = emit.add(arith::ExtSIOp::create(builder, emit.loc, wide, emit.iota()), emit.splat(first));
  Value offsets = emit.mul(lanes, emit.splat(slots.dim("T")));
  return mlir::LLVM::GEPOp::create(builder, emit.loc, emit.vectorOf(emit.ptrType()), emit.real(), row,
                                   llvm::ArrayRef<mlir::LLVM::GEPArg>{offsets});
}

Value KernelCode::loadNumbers(Value row, Value first, Value mask, Value fill) {
  if (!slots.headRows())
    return mlir::LLVM::MaskedLoadOp::create(builder, emit.loc, emit.floats(), emit.at(row, first), mask, fill, 4);
  return mlir::LLVM::masked_gather::create(builder, emit.loc, emit.floats(), pointersTo(row, first), mask, fill, 4);
}

void KernelCode::storeNumbers(Value numbers, Value row, Value first, Value mask) {
  if (!slots.headRows()) mlir::LLVM::MaskedStoreOp::create(builder, emit.loc, numbers, emit.at(row, first), mask, 4);
  else mlir::LLVM::masked_scatter::create(builder, emit.loc, numbers, pointersTo(row, first), mask, 4);
}

void KernelCode::addToRow(dialect::AccumulateOp sum, Value value, const target::RegionContext &context) {
  const std::string name = sum.getInput().str();
  Value row = emit.at(slots.pointer(name), slots.rowElement(context.batch, context.head, emit.i64(0)));
  Value mask = emit.firstLanes(emit.sub(slots.rows(), context.i));
  Value old = loadNumbers(row, context.i, mask, emit.zeros());
  storeNumbers(arith::AddFOp::create(builder, emit.loc, old, value), row, context.i, mask);
}

}  // namespace weft::cpu
