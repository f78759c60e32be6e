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

Tile &KernelCode::tile(Value value) {
  auto found = tiles.find(value);
  internalCheck(found != tiles.end(), "cpu lowering", "tile without a place");
  return found->second;
}

void KernelCode::addToRow(dialect::AccumulateOp sum, Value value, const target::RegionContext &context) {
  const std::string name = sum.getInput().str();
  Value row = emit.add(emit.mul(context.batch, slots.dim("H")), context.head);
  Value pointer = emit.at(slots.pointer(name), emit.add(emit.mul(row, slots.dim("T")), context.i));
  Value mask = emit.firstLanes(emit.sub(slots.dim("T"), context.i));
  Value old = mlir::LLVM::MaskedLoadOp::create(builder, emit.loc, emit.floats(), pointer, mask, emit.zeros(), 4);
  Value next = arith::AddFOp::create(builder, emit.loc, old, value);
  mlir::LLVM::MaskedStoreOp::create(builder, emit.loc, next, pointer, mask, 4);
}

}  // namespace weft::cpu
