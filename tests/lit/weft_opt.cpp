// weft-opt: mlir-opt with the two dialects and the compiler's passes, for the lit tests.
#include "compiler/dialect/dialects.h"
#include "compiler/target/cpu/expand_bf16.h"
#include "compiler/target/nvptx/lower_kernel.h"
#include "compiler/transforms/build_kernels.h"
#include "compiler/transforms/build_plan.h"
#include "compiler/transforms/build_select.h"
#include "compiler/transforms/differentiate.h"
#include "compiler/transforms/expand_functions.h"
#include "compiler/transforms/hoist_loads.h"
#include "compiler/transforms/mark_exact.h"
#include "compiler/transforms/place_operands.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/Pass/Pass.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "mlir/Transforms/Passes.h"

namespace {

/// One of the compiler's functions as a pass, named as its file.
struct FunctionPass : mlir::PassWrapper<FunctionPass, mlir::OperationPass<mlir::ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(FunctionPass)
  FunctionPass(std::string name, std::function<void(mlir::ModuleOp)> body)
      : name(std::move(name)), body(std::move(body)) {}
  FunctionPass(const FunctionPass &) = default;
  llvm::StringRef getArgument() const override { return name; }
  llvm::StringRef getDescription() const override { return "see compiler/transforms"; }
  void getDependentDialects(mlir::DialectRegistry &registry) const override {
    registry.insert<mlir::arith::ArithDialect, mlir::math::MathDialect, mlir::scf::SCFDialect, mlir::LLVM::LLVMDialect,
                    mlir::NVVM::NVVMDialect, weft::dialect::WeftDialect, weft::tile::TileDialect>();
  }
  void runOnOperation() override { body(getOperation()); }

  std::string name;
  std::function<void(mlir::ModuleOp)> body;
};

void add(const std::string &name, std::function<void(mlir::ModuleOp)> body) {
  mlir::registerPass([=] { return std::make_unique<FunctionPass>(name, body); });
}

}  // namespace

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  registry.insert<weft::dialect::WeftDialect, weft::tile::TileDialect, mlir::arith::ArithDialect,
                  mlir::math::MathDialect, mlir::scf::SCFDialect, mlir::func::FuncDialect>();
  mlir::registerCanonicalizerPass();
  mlir::registerCSEPass();
  add("mark-exact", weft::markExact);
  add("differentiate", weft::differentiate);
  add("expand-functions", weft::expandFunctions);
  add("expand-bf16", weft::cpu::expandBf16);
  add("hoist-loads", weft::hoistLoads);
  add("place-operands", [](mlir::ModuleOp module) { weft::placeOperands(module, 3); });
  const weft::nvptx::LowerOptions gpu{weft::ElementType::BF16};
  add("lower-nvptx", [=](mlir::ModuleOp module) {
    auto kernel = *module.getOps<weft::tile::KernelOp>().begin();
    weft::nvptx::lowerKernel(module, kernel, gpu);
    kernel.erase();
  });
  mlir::registerLoopInvariantCodeMotionPass();
  const weft::KernelShape shape{{{"D", 64}, {"E", 32}, {"R", 16}}, 64, 64};
  for (const char *kernel :
       {"forward", "backward", "backward_delta", "backward_dq", "backward_dkdv", "backward_dkdv.M"})
    add(std::string("build-kernel-") + kernel,
        [=](mlir::ModuleOp module) { weft::buildKernel(module, kernel, shape); });
  for (const char *kernel : {"plan_band", "plan_lists", "plan_lists_keys", "plan_band.M"})
    add(std::string("build-plan-") + kernel, [=](mlir::ModuleOp module) { weft::buildPlan(module, kernel, shape); });
  for (const char *kernel : {"pool_0", "pool_1", "select_0", "list_keys"})
    add(std::string("build-select-") + kernel,
        [=](mlir::ModuleOp module) { weft::buildSelect(module, kernel, shape); });
  return mlir::asMainReturnCode(mlir::MlirOptMain(argc, argv, "weft-opt\n", registry));
}
