#include "compiler/target/llvm_code.h"

#include "compiler/dialect/dialects.h"
#include "compiler/internal_error.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/OptBisect.h"
#include "llvm/IR/Verifier.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Transforms/InstCombine/InstCombine.h"
#include "llvm/Transforms/Scalar.h"
#include "llvm/Transforms/Scalar/EarlyCSE.h"
#include "llvm/Transforms/Scalar/GVN.h"
#include "llvm/Transforms/Scalar/LICM.h"
#include "llvm/Transforms/Scalar/LoopPassManager.h"
#include "llvm/Transforms/Scalar/SROA.h"
#include "llvm/Transforms/Scalar/SimplifyCFG.h"
#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVMPass.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MathToLibm/MathToLibm.h"
#include "mlir/Conversion/Passes.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/NVVM/NVVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/DialectConversion.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "mlir/Transforms/Passes.h"

namespace weft::target {
namespace {

/// math functions with a polynomial; the rest become calls of the C library, those of f64 too.
struct ApproximateMath : mlir::PassWrapper<ApproximateMath, mlir::OperationPass<mlir::ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(ApproximateMath)
  void runOnOperation() override {
    mlir::RewritePatternSet patterns(&getContext());
    mlir::math::populateExpansionPatterns(patterns, {"powf"});
    mlir::populateMathPolynomialApproximationPatterns(patterns);
    if (failed(mlir::applyPatternsGreedily(getOperation(), std::move(patterns)))) signalPassFailure();
    if (dialect::realType(&getContext()).isF64()) callLibrary();
  }

  void callLibrary() {
    mlir::RewritePatternSet patterns(&getContext());
    mlir::populateMathToLibmConversionPatterns(patterns);
    mlir::ConversionTarget target(getContext());
    target.addIllegalOp<mlir::math::CosOp, mlir::math::ErfOp, mlir::math::LogOp, mlir::math::Log1pOp,
                        mlir::math::Log2Op, mlir::math::PowFOp, mlir::math::SinOp, mlir::math::TanhOp>();
    target.markUnknownOpDynamicallyLegal([](mlir::Operation *) { return true; });
    if (failed(mlir::applyPartialConversion(getOperation(), target, std::move(patterns)))) signalPassFailure();
  }
};

/// For kernels whose loops are as the machine shall run them (vectors, blocks of registers): addresses are put
/// together, what is computed twice or for nothing goes, what does not change leaves its loop. Of LLVM's -O2 the rest,
/// most of its time, changed nothing that could be measured.
llvm::ModulePassManager passesOfVectorKernels() {
  llvm::FunctionPassManager passes;
  passes.addPass(llvm::SROAPass(llvm::SROAOptions::ModifyCFG));
  passes.addPass(llvm::EarlyCSEPass(/*UseMemorySSA=*/true));
  passes.addPass(llvm::InstCombinePass());
  passes.addPass(llvm::SimplifyCFGPass());
  passes.addPass(llvm::createFunctionToLoopPassAdaptor(llvm::LICMPass(llvm::LICMOptions()), /*UseMemorySSA=*/true));
  passes.addPass(llvm::GVNPass());
  passes.addPass(llvm::SimplifyCFGPass());
  llvm::ModulePassManager result;
  result.addPass(llvm::createModuleToFunctionPassAdaptor(std::move(passes)));
  return result;
}

/// All passes but the reduction of strength in loops: of addresses that are a few sums it makes longer ones (29
/// instructions a turn of 12 FMA where 25 do), in a sixth of the time of code generation.
class WithoutStrengthReduction : public llvm::OptPassGate {
 public:
  bool shouldRunPass(llvm::StringRef pass, llvm::StringRef) const override { return pass != name(); }
  bool isEnabled() const override { return true; }

 private:
  static llvm::StringRef name() {
    static const std::unique_ptr<llvm::Pass> reduction(llvm::createLoopStrengthReducePass());
    static const llvm::StringRef own = reduction->getPassName();
    return own;
  }
};

}  // namespace

std::unique_ptr<llvm::Module> toLlvmIr(mlir::ModuleOp module, llvm::LLVMContext &context, llvm::TargetMachine &target) {
  mlir::PassManager passes(module.getContext());
  // Between MLIR's own conversions nothing is verified: what comes out is, by LLVM.
  passes.enableVerifier(false);
  passes.addPass(mlir::createCSEPass());
  passes.addPass(std::make_unique<ApproximateMath>());
  passes.addPass(mlir::createSCFToControlFlowPass());
  passes.addPass(mlir::createConvertVectorToLLVMPass());
  passes.addPass(mlir::createConvertMathToLLVMPass());
  passes.addPass(mlir::createArithToLLVMConversionPass());
  passes.addPass(mlir::createConvertControlFlowToLLVMPass());
  passes.addPass(mlir::createConvertFuncToLLVMPass());
  passes.addPass(mlir::createReconcileUnrealizedCastsPass());
  internalCheck(mlir::succeeded(passes.run(module)), "code generation", "conversion to LLVM failed");
  mlir::registerBuiltinDialectTranslation(*module.getContext());
  mlir::registerLLVMDialectTranslation(*module.getContext());
  mlir::registerNVVMDialectTranslation(*module.getContext());
  std::unique_ptr<llvm::Module> code = mlir::translateModuleToLLVMIR(module, context);
  internalCheck(code != nullptr, "code generation", "translation to LLVM IR failed");
  std::string broken;
  llvm::raw_string_ostream stream(broken);
  const bool isBroken = llvm::verifyModule(*code, &stream);  // which writes what the message says
  internalCheck(!isBroken, "code generation", "broken LLVM IR: " + broken);
  code->setDataLayout(target.createDataLayout());
  code->setTargetTriple(target.getTargetTriple());
  return code;
}

void optimize(llvm::Module &module, llvm::TargetMachine &target, Loops own) {
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager callGraph;
  llvm::ModuleAnalysisManager modules;
  llvm::PipelineTuningOptions tuning;
  tuning.LoopVectorization = own == Loops::Scalar;
  tuning.SLPVectorization = false;
  llvm::PassBuilder builder(&target, tuning);
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(callGraph);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, callGraph, modules);
  auto passes = own == Loops::Vectors ? passesOfVectorKernels()
                                      : builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O2);
  passes.run(module, modules);
}

std::string emitFile(llvm::Module &module, llvm::TargetMachine &target, bool assembly, Loops own) {
  llvm::SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream stream(bytes);
  llvm::legacy::PassManager passes;
  static WithoutStrengthReduction gate;
  if (own == Loops::Vectors) module.getContext().setOptPassGate(gate);
  const auto type = assembly ? llvm::CodeGenFileType::AssemblyFile : llvm::CodeGenFileType::ObjectFile;
  const bool can = !target.addPassesToEmitFile(passes, stream, nullptr, type);
  internalCheck(can, "code generation", "the target cannot emit files");
  passes.run(module);
  return std::string(bytes.begin(), bytes.end());
}

}  // namespace weft::target
