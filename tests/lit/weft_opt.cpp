// weft-opt: mlir-opt with the compiler's dialects and passes, for the lit tests.
#include "compiler/passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "mlir/Transforms/Passes.h"

namespace weft {
#define GEN_PASS_REGISTRATION
#include "compiler/Passes.h.inc"
}  // namespace weft

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  registry.insert<weft::dialect::WeftDialect, weft::tile::TileDialect, weft::cpu::CpuDialect, weft::cta::CtaDialect,
                  mlir::arith::ArithDialect, mlir::math::MathDialect, mlir::scf::SCFDialect, mlir::func::FuncDialect,
                  mlir::vector::VectorDialect, mlir::LLVM::LLVMDialect, mlir::NVVM::NVVMDialect>();
  weft::registerWeftPasses();
  mlir::registerTransformsPasses();
  return mlir::asMainReturnCode(mlir::MlirOptMain(argc, argv, "weft-opt\n", registry));
}
