// Chooses what multiplies the tiles of a kernel.
//
// Before: tile.dot, tile.dot_into. After: cpu.product, cpu.product_into of one kind for the whole kernel: amx where the
// CPU has it, rows are bf16, and tiles fill its registers; pairs where it multiplies pairs of bf16; else fma. Of few
// queries (block-rows is 1) by_row, in kernels that go through the keys of a tile of queries.
// Test: choose_products.mlir
#include "compiler/internal_error.h"
#include "compiler/passes.h"
#include "compiler/target/cpu/object_code.h"
#include "compiler/target/tensors.h"

namespace weft {

#define GEN_PASS_DEF_CHOOSEPRODUCTS
#include "compiler/Passes.h.inc"

namespace {

using target::Machine;

/// Rows of bf16 that fill registers, and tiles of keys that transpose 32 by 32.
bool fitsHalves(tile::KernelOp kernel) {
  bool fits = target::rowType(kernel) == ElementType::BF16 && kernel.getTileK() % 32 == 0;
  kernel.walk([&](tile::LoadOp load) { fits &= load.getResult().getType().getDimSize(1) % 16 == 0; });
  return fits;
}

/// Products of a tile of queries with rows of keys alone: those of a forward pass, and of backward_dq.
bool attendsAlone(tile::KernelOp kernel) {
  bool attends = kernel.getGrid() == tile::Grid::Query;
  kernel.walk([&](tile::DotOp dot) { attends &= dot.getForm() != tile::DotForm::TN; });
  kernel.walk([&](tile::DotIntoOp) { attends = false; });
  return attends;
}

/// The first kind that fits a kernel and a machine, the fastest before the others.
cpu::ProductKind kindOf(tile::KernelOp kernel, const Machine &machine, bool few) {
  if (few && attendsAlone(kernel)) return cpu::ProductKind::ByRow;
  if (!fitsHalves(kernel)) return cpu::ProductKind::Fma;
  // AMX makes 16 x 16 sums, two by two, of 32 terms at a time.
  if (machine.amx && kernel.getTileQ() % 32 == 0) return cpu::ProductKind::Amx;
  if (machine.pairs != Machine::Pairs::None) return cpu::ProductKind::Pairs;
  return cpu::ProductKind::Fma;
}

void choose(tile::KernelOp kernel, const Machine &machine, bool few) {
  const cpu::ProductKind kind = kindOf(kernel, machine, few);
  mlir::OpBuilder builder(kernel.getContext());
  kernel.walk([&](mlir::Operation *op) {
    builder.setInsertionPoint(op);
    if (auto dot = mlir::dyn_cast<tile::DotOp>(op)) {
      mlir::Value result = cpu::ProductOp::create(builder, dot.getLoc(), dot.getResult().getType(), kind, dot.getForm(),
                                                  dot.getBlocked(), dot.getLhs(), dot.getRhs(), dot.getAcc());
      dot.getResult().replaceAllUsesWith(result);
      dot.erase();
    } else if (auto into = mlir::dyn_cast<tile::DotIntoOp>(op)) {
      internalCheck(!into.getAtomic(), "choose-products", "an atomic sum: programs of a CPU own what they add to");
      cpu::ProductIntoOp::create(builder, into.getLoc(), kind, into.getForm(), into.getLhs(), into.getRhs(),
                                 mlir::Value(), into.getTensor(), into.getBatch(), into.getHead(), into.getIndex());
      into.erase();
    }
  });
}

struct ChooseProducts : impl::ChooseProductsBase<ChooseProducts> {
  using ChooseProductsBase::ChooseProductsBase;
  void runOnOperation() override {
    const bool chosen = attempt(getOperation(), [&] {
      getOperation().walk([&](tile::KernelOp kernel) { choose(kernel, cpu::machineOf(cpu), blockRows == 1); });
    });
    if (!chosen) signalPassFailure();
  }
};

}  // namespace
}  // namespace weft
