#include "compiler/target/nvptx/kernel_code.h"

#include "compiler/target/nvptx/inline_ptx.h"
#include "compiler/target/tensors.h"
#include "llvm/ADT/TypeSwitch.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

namespace weft::nvptx {

namespace arith = mlir::arith;
namespace llvmir = mlir::LLVM;
namespace nvvm = mlir::NVVM;

constexpr unsigned globalSpace = 1;

/// Set by choose-instructions where a program is a CTA.
static int64_t warpsOf(tile::KernelOp kernel) {
  auto warps = kernel->getAttrOfType<mlir::IntegerAttr>(cta::warps);
  return warps ? warps.getInt() : 1;
}

Value SharedTile::offsetOf(Emitter &emit, Value row, Value byte) const {
  if (!type.isSwizzled()) return emit.add(emit.mul(row, emit.i32(pitch())), byte);
  auto bits = [&](Value x, int64_t mask) { return Value(arith::AndIOp::create(emit.b, emit.loc, x, emit.i32(mask))); };
  constexpr int64_t panel = cta::SwizzledAttr::panelBytes;
  Value chunk = arith::ShLIOp::create(emit.b, emit.loc, bits(row, 7), emit.i32(4));
  Value inside = arith::XOrIOp::create(emit.b, emit.loc, bits(byte, panel - 1), chunk);
  Value number = arith::ShRUIOp::create(emit.b, emit.loc, byte, emit.i32(7));
  Value start = emit.add(emit.mul(number, emit.i32(type.panelBytes())), emit.mul(row, emit.i32(panel)));
  return emit.add(start, inside);
}

KernelCode::KernelCode(mlir::ModuleOp module, tile::KernelOp kernel)
    : kernel(kernel),
      tileQ(kernel.getTileQ()),
      tileK(kernel.getTileK()),
      builder(module.getContext()),
      emit(builder, {.lanes = 1, .registers = 255, .globalSpace = globalSpace}),
      slots(emit, kernel),
      plan(emit, slots, scalars),
      thread(emit, warpsOf(kernel)) {}

void KernelCode::lower(mlir::Operation &op) {
  emit.loc = op.getLoc();
  // Terminators are the business of what is around them; tensors have become slots, cursors begin with
  // their role. The rest is scalar code.
  if (mlir::isa<tile::YieldOp, mlir::scf::YieldOp, tile::TensorOp, cta::CursorOp>(op)) return;
  if (!kernel->hasAttr(cta::warps)) return plan.emitOp(op);
  auto lowerOp = [&](auto own) { nvptx::lower(*this, own); };
  llvm::TypeSwitch<mlir::Operation *>(&op)
      .Case<cta::AllocOp, cta::StageOp, cta::CopyAsyncOp, cta::CopyRowsAsyncOp, cta::CommitGroupOp, cta::WaitGroupOp,
            cta::FenceAsyncOp, cta::BarrierOp>(lowerOp)
      .Case<cta::RingOp, cta::AdvanceOp, cta::FillOp, cta::AcquireOp, cta::CarriedOp, cta::ReleaseOp>(lowerOp)
      .Case<cta::RolesOp, cta::GiveOp, cta::TakeOp, cta::TakeTurnOp, cta::PassTurnOp>(lowerOp)
      .Case<cta::StoreSharedOp, cta::MmaOp, cta::WaitMmaOp, cta::RowDotOp, cta::AddRowsOp>(lowerOp)
      .Case<cta::KeptTilesOp, cta::TurnsOp, cta::TurnOp, tile::ForOp>(lowerOp)
      .Case<tile::FillOp, tile::LoadRowsOp, tile::ScaleOp, tile::ScaleRowsOp, tile::ScanSumOp>(lowerOp)
      .Case<tile::AddPartsOp, tile::BelowPeakOp>(lowerOp)
      .Case<tile::RowwiseOp, tile::PairwiseOp, tile::StoreOp, tile::StoreRowsOp, mlir::scf::ForOp, mlir::scf::IfOp>(
          lowerOp)
      .Default([&](mlir::Operation *scalarOp) { plan.emitOp(*scalarOp); });
}

void KernelCode::ptx(const std::string &text, const std::string &constraints, mlir::ValueRange operands) {
  inlinePtx(emit.b, emit.loc, {}, text, constraints + (constraints.empty() ? "" : ",") + "~{memory}", operands);
}

Value KernelCode::scalar(Value value) {
  auto found = scalars.find(value);
  internalCheck(found != scalars.end(), "nvptx lowering", "scalar without a value");
  return found->second;
}

Registers &KernelCode::registersOf(Value tile) {
  auto found = registers.find(tile);
  internalCheck(found != registers.end(), "nvptx lowering", "tile without registers");
  return found->second;
}

const SharedTile &KernelCode::buffer(Value value) {
  auto found = buffers.find(value);
  internalCheck(found != buffers.end(), "nvptx lowering", "buffer without a place");
  return found->second;
}

int64_t KernelCode::count(mlir::Type type) const {
  const auto shape = mlir::cast<mlir::RankedTensorType>(type).getShape();
  return thread.blocks(shape[0]) * (shape.size() == 1 ? 2 : columnTiles(shape[1]) * 4);
}

void KernelCode::spread(mlir::ValueRange tiles, llvm::ArrayRef<Value> values) {
  for (Value tile : tiles) {
    const llvm::ArrayRef<Value> own = values.take_front(count(tile));
    registers[tile] = Registers(own.begin(), own.end());
    values = values.drop_front(own.size());
  }
}

mlir::Type KernelCode::packedType(Value tile) {
  mlir::Type type;
  if (!tile.getDefiningOp<tile::PairwiseOp>()) return type;
  for (mlir::OpOperand &use : tile.getUses()) {
    cta::SharedType shared;
    if (auto store = mlir::dyn_cast<cta::StoreSharedOp>(use.getOwner())) shared = store.getBuffer().getType();
    else if (auto product = mlir::dyn_cast<cta::MmaOp>(use.getOwner());
             product && product.getForm() == tile::DotForm::NN && &use == &product.getLhsMutable())
      shared = product.getRhs().getType();
    if (!shared || shared.getElement().isF32()) return {};
    type = shared.getElement();
  }
  return type;
}

Value KernelCode::pack(mlir::Type element, Value low, Value high) {
  const auto type = mlir::VectorType::get({2}, element);
  Value packed;
  if (element.isBF16())
    packed =
        nvvm::ConvertF32x2ToBF16x2Op::create(builder, emit.loc, type, high, low, Value(), nvvm::FPRoundingMode::RN);
  else
    packed = nvvm::ConvertF32x2ToF16x2Op::create(builder, emit.loc, type, high, low, Value(), nvvm::FPRoundingMode::RN);
  return llvmir::BitcastOp::create(builder, emit.loc, builder.getI32Type(), packed);
}

Registers KernelCode::packed(Value tile, mlir::Type element) {
  const Registers &own = registersOf(tile);
  if (isPacked(tile)) return own;
  Registers words;
  for (size_t at = 0; at < own.size(); at += 2) words.push_back(pack(element, own[at], own[at + 1]));
  return words;
}

std::pair<Value, Value> KernelCode::keyAt(Value n) {
  return slots.keyAt(emit.min(n, emit.sub(slots.dim(slots.listDim), emit.i64(1))));
}

Value KernelCode::headRow(const target::RegionContext &context) {
  return slots.rowNumber(context.batch, context.head, context.i);
}

void KernelCode::atomicAdd(Value pointer, Value value) {
  llvmir::AtomicRMWOp::create(builder, emit.loc, llvmir::AtomicBinOp::fadd, pointer, value,
                              llvmir::AtomicOrdering::monotonic, "device");
}

void KernelCode::atomicAddPair(Value pointer, Value first, Value second) {
  Value address = llvmir::PtrToIntOp::create(builder, emit.loc, builder.getI64Type(), pointer);
  inlinePtx(emit.b, emit.loc, {}, "red.relaxed.gpu.global.add.v2.f32 [$0], {$1, $2};", "l,f,f",
            {address, first, second});
}

void KernelCode::addToRow(dialect::AccumulateOp sum, Value value, const target::RegionContext &context, Value i) {
  emit.when(both(thread.isFirstOfRow(), emit.less(i, slots.rows())), [&] {
    Value index = slots.rowElement(context.batch, context.head, i);
    Value pointer = emit.at(slots.pointer(sum.getInput().str()), index);
    // Where no other program adds to the row, too: nobody waits for what was there.
    atomicAdd(pointer, value);
  });
}

}  // namespace weft::nvptx
