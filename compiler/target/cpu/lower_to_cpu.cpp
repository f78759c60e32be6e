// Kernels over tiles to vector code of a CPU.
//
// Before: one tile.kernel on the cpu level (see CpuDialect.td), its tiles placed, or a scalar program. After: func.func
// @<kernel>(slots, begin, end, scratch) of scf, arith, math, vector and llvm memory operations; it runs programs
// begin .. end of the grid. Test: lower_cpu.mlir
#include "compiler/compiler.h"
#include "compiler/passes.h"
#include "compiler/target/cpu/kernel_code.h"
#include "compiler/target/cpu/object_code.h"
#include "compiler/target/grid.h"
#include "compiler/target/image.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace weft::cpu {
namespace {

void lowerKernel(mlir::ModuleOp module, tile::KernelOp kernel, const Machine &machine, int blockRows) {
  KernelCode code(module, kernel, machine, std::max(blockRows, 6));
  mlir::OpBuilder &builder = code.builder;
  Emitter &emit = code.emit;
  builder.setInsertionPointToEnd(module.getBody());
  mlir::Type i64 = builder.getI64Type(), pointer = emit.ptrType();
  auto type = builder.getFunctionType({pointer, i64, i64, pointer}, {});
  auto function = mlir::func::FuncOp::create(builder, emit.loc, target::entryName(kernel), type);
  mlir::Block *entry = function.addEntryBlock();
  builder.setInsertionPointToStart(entry);
  mlir::func::ReturnOp::create(builder, emit.loc);
  code.scratch = entry->getArgument(3);
  code.slots.setEntry(entry, entry->getArgument(0));
  builder.setInsertionPoint(entry->getTerminator());

  if (code.usesAmx) code.amx.configure(code.scratch);
  target::ProgramGrid grid(emit, code.slots, kernel);
  emit.loop(entry->getArgument(1), entry->getArgument(2), 1, [&](Value p) {
    grid.bind(p, code.scalars);
    code.plan.workspace = code.scratch;  // programs that have one keep no tiles
    code.lower(kernel.getBody().front());
  });
  if (code.usesAmx) code.amx.release();

  KernelImage image = grid.image(function.getSymName());
  if (auto bytes = kernel->getAttrOfType<mlir::IntegerAttr>(cpu::scratchBytes)) image.scratchBytes = bytes.getInt();
  target::describeImage(function, image);
}

}  // namespace
}  // namespace weft::cpu

namespace weft {

#define GEN_PASS_DEF_LOWERTOCPU
#include "compiler/Passes.h.inc"

namespace {

struct LowerToCpu : impl::LowerToCpuBase<LowerToCpu> {
  using LowerToCpuBase::LowerToCpuBase;

  void runOnOperation() override {
    mlir::ModuleOp module = getOperation();
    const unsigned floatBits = dialect::realType(&getContext()).getWidth();
    const bool lowered = attempt(module, [&] {
      for (auto kernel : llvm::make_early_inc_range(module.getOps<tile::KernelOp>())) {
        cpu::lowerKernel(module, kernel, cpu::machineOf(cpu, floatBits), blockRows);
        kernel.erase();
      }
    });
    if (!lowered) return signalPassFailure();
  }
};

}  // namespace
}  // namespace weft
