// Builds the kernel that is asked for from a variant's pairwise programs.
//
// Before: weft.pairwise @forward, @backward, ... After: one tile.kernel that stands alone, see build_kernels.h
// (attention itself), build_plan.h (which tiles it looks at) and build_select.h (which of them are chosen by content).
// Tests: build_kernels.mlir, build_plan.mlir, build_select.mlir
#include "compiler/passes.h"
#include "compiler/transforms/build_kernels.h"
#include "compiler/transforms/build_plan.h"
#include "compiler/transforms/build_select.h"
#include "compiler/transforms/declare_tensors.h"

namespace weft {

#define GEN_PASS_DEF_BUILDKERNEL
#include "compiler/Passes.h.inc"

namespace {

struct BuildKernel : impl::BuildKernelBase<BuildKernel> {
  using BuildKernelBase::BuildKernelBase;

  void runOnOperation() override {
    const bool built = attempt(getOperation(), [&] {
      const llvm::StringRef name = kernel;
      if (name.starts_with("plan_")) buildPlan(getOperation(), kernel, shape());
      else if (isScalarProgram(name)) buildSelect(getOperation(), kernel, shape());
      else buildKernel(getOperation(), kernel, shape());
      for (auto own : llvm::make_early_inc_range(getOperation().getOps<tile::KernelOp>())) {
        own.setOrder(headsInner ? tile::Order::Heads : tile::Order::Tiles);
        declareTensors(getOperation(), own, shape(), paged);
      }
      // The variant is in the kernel.
      for (auto program : llvm::make_early_inc_range(getOperation().getOps<dialect::PairwiseOp>())) program.erase();
      for (const char *attribute : {"weft.inputs", "weft.normalize", "weft.also", "weft.pools", "weft.keys"})
        getOperation()->removeAttr(attribute);
    });
    if (!built) signalPassFailure();
  }

 private:
  KernelShape shape() {
    KernelShape shape{{}, tileQ, tileK};
    for (const std::string &dim : dims) {
      auto [name, size] = llvm::StringRef(dim).split('=');
      internalCheck(!size.getAsInteger(10, shape.dims[name.str()]), "build_kernel", "no size of a dim: " + dim);
    }
    const auto known = rowTypeNamed(type);
    internalCheck(known.has_value(), "build_kernel", "no type of rows: " + type);
    shape.type = *known;
    shape.sharedRows = sharedRows;
    shape.wideSums = wideSums;
    return shape;
  }
};

}  // namespace
}  // namespace weft
