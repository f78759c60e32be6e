#include "compiler/target/cpu/kernel_code.h"

#include "llvm/ADT/TypeSwitch.h"

namespace weft::cpu {

/// True where bf16 products run in AMX: whole registers on both sides.
static bool fitsAmx(tile::KernelOp kernel, const Machine &machine) {
  bool fits = machine.amx && target::rowType(kernel) == ElementType::BF16 && kernel.getTileQ() % 32 == 0 &&
              kernel.getTileK() % 32 == 0;
  bool any = false;
  kernel.walk([&](tile::LoadOp load) { fits &= KernelCode::shapeOf(load.getResult())[1] % 16 == 0; });
  kernel.walk([&](mlir::Operation *op) { any |= mlir::isa<tile::DotOp, tile::DotIntoOp>(op); });
  return fits && any;
}

KernelCode::KernelCode(mlir::ModuleOp module, tile::KernelOp kernel, const Machine &machine, int blockRows)
    : kernel(kernel),
      tileQ(kernel.getTileQ()),
      tileK(kernel.getTileK()),
      blockRows(blockRows),
      useAmx(fitsAmx(kernel, machine)),
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
      .Case<tile::LoadOp, tile::LoadRowsOp, tile::DotOp, tile::DotIntoOp, tile::ForOp, tile::PairwiseOp>(lowerOp)
      .Case<tile::FillOp, tile::ScaleRowsOp, tile::ScanSumOp, tile::RowwiseOp, tile::RowDotOp>(lowerOp)
      .Case<tile::StoreOp, tile::StoreRowsOp>(lowerOp)
      .Default([&](mlir::Operation *scalarOp) { plan.emitOp(*scalarOp); });
}

Value KernelCode::allocate(int64_t floats) {
  Value pointer = emit.at(scratch, emit.i64(scratchFloats));
  scratchFloats += (floats + 15) / 16 * 16;
  return pointer;
}

Buffer KernelCode::rowBuffer() {
  Buffer result;
  result.kind = Buffer::Kind::Rows;
  result.rows = tileQ;
  result.columns = 1;
  result.memory = allocate(tileQ);
  return result;
}

Buffer KernelCode::transposedBuffer(int64_t columns) {
  Buffer result;
  result.kind = Buffer::Kind::Transposed;
  result.rows = tileQ;
  result.columns = columns;
  const int lanes = emit.machine.lanes;
  result.memory = allocate((columns + lanes - 1) / lanes * lanes * tileQ);
  return result;
}

Value KernelCode::scalar(Value value) {
  auto found = scalars.find(value);
  internalCheck(found != scalars.end(), "cpu lowering", "scalar without a value");
  return found->second;
}

Buffer &KernelCode::buffer(Value tile) {
  auto found = buffers.find(tile);
  internalCheck(found != buffers.end(), "cpu lowering", "tile without a buffer");
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
