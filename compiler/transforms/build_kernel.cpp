// Builds the kernel that is asked for from a variant's pairwise programs.
//
// Before: weft.pairwise @forward, @backward, ... After: one tile.kernel too, see build_kernels.h (attention itself),
// build_plan.h (which tiles it looks at) and build_select.h (which of them are chosen by content).
// Tests: build_kernels.mlir, build_plan.mlir, build_select.mlir
#include "compiler/passes.h"
#include "compiler/transforms/build_kernels.h"
#include "compiler/transforms/build_plan.h"
#include "compiler/transforms/build_select.h"

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
    for (ElementType known : {ElementType::F32, ElementType::BF16, ElementType::F16})
      if (type == weft::name(known)) shape.type = known;
    internalCheck(type == weft::name(shape.type), "build_kernel", "no type of rows: " + type);
    return shape;
  }
};

}  // namespace
}  // namespace weft
