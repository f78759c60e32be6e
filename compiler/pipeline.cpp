#include "compiler/pipeline.h"

#include <filesystem>
#include <fstream>

#include "compiler/dialect/dialects.h"
#include "compiler/internal_error.h"
#include "compiler/language/ast.h"
#include "compiler/target/cpu/expand_bf16.h"
#include "compiler/target/cpu/lower_kernel.h"
#include "compiler/target/cpu/object_code.h"
#include "compiler/target/expand_exp.h"
#include "compiler/target/nvptx/lower_kernel.h"
#include "compiler/target/nvptx/ptx_code.h"
#include "compiler/target/nvptx/shared_memory.h"
#include "compiler/transforms/build_kernels.h"
#include "compiler/transforms/build_plan.h"
#include "compiler/transforms/build_select.h"
#include "compiler/transforms/differentiate.h"
#include "compiler/transforms/expand_functions.h"
#include "compiler/transforms/hoist_loads.h"
#include "compiler/transforms/lower_ast.h"
#include "compiler/transforms/mark_exact.h"
#include "compiler/transforms/place_operands.h"
#include "compiler/transforms/signature.h"
#include "llvm/Support/raw_ostream.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"

namespace weft {
namespace {

std::unique_ptr<mlir::MLIRContext> makeContext() {
  auto context = std::make_unique<mlir::MLIRContext>(mlir::MLIRContext::Threading::DISABLED);
  context->loadDialect<dialect::WeftDialect, tile::TileDialect, mlir::arith::ArithDialect, mlir::math::MathDialect,
                       mlir::scf::SCFDialect, mlir::vector::VectorDialect, mlir::LLVM::LLVMDialect,
                       mlir::NVVM::NVVMDialect, mlir::func::FuncDialect, mlir::cf::ControlFlowDialect>();
  return context;
}

KernelShape shapeOf(const CompileRequest &request) {
  return {request.dims, request.schedule.tileQ, request.schedule.tileK, request.type};
}

std::string print(mlir::ModuleOp module) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  module.print(stream);
  return text;
}

void simplify(mlir::ModuleOp module) {
  mlir::PassManager passes(module.getContext());
  passes.addPass(mlir::createCSEPass());
  internalCheck(mlir::succeeded(passes.run(module)), "simplify", "CSE failed");
}

void hoistInvariants(mlir::ModuleOp module) {
  mlir::PassManager passes(module.getContext());
  passes.addPass(mlir::createLoopInvariantCodeMotionPass());
  internalCheck(mlir::succeeded(passes.run(module)), "hoist_invariants", "loop-invariant code motion failed");
}

/// Runs steps in order, verifying and, where asked, dumping after each.
class Steps {
 public:
  Steps(mlir::ModuleOp module, const CompileRequest &request) : module(module), request(request) {}

  template <class Step>
  void operator()(const char *name, Step step) {
    step();
    internalCheck(mlir::succeeded(mlir::verify(module)), name, "the IR does not verify");
    dump(name, "mlir", print(module));
  }
  void dump(const char *name, const char *extension, const std::string &text) {
    ++count;
    if (request.dumpDirectory.empty()) return;
    std::filesystem::create_directories(request.dumpDirectory);
    char number[16];
    std::snprintf(number, sizeof number, "%02d", count);
    std::ofstream(request.dumpDirectory + "/" + request.variant->name() + "." + request.kernel + "." + number + "-" +
                  name + "." + extension)
        << (text == previous ? "(unchanged)\n" : text);
    previous = text;
  }

 private:
  mlir::ModuleOp module;
  const CompileRequest &request;
  int count = 0;
  std::string previous;
};

}  // namespace

CompileResult runPipeline(const CompileRequest &request) {
  CompileResult result;
  const ast::Variant &variant = request.variant->tree();
  if (request.stage == Stage::Ast) {
    result.text = ast::print(variant);
    return result;
  }
  auto context = makeContext();

  // Checked AST -> weft: one pairwise program, @forward.
  mlir::OwningOpRef<mlir::ModuleOp> owner = lowerAst(variant, *context);
  mlir::ModuleOp module = *owner;
  Steps step(module, request);
  step("lower_ast", [&] { simplify(module); });

  // weft: int arithmetic that cannot overflow says so; the rest saturates.
  step("mark_exact", [&] { markExact(module); });

  // weft: derive @backward by reverse-mode differentiation.
  step("differentiate", [&] {
    differentiate(module);
    simplify(module);
  });
  if (request.stage == Stage::Weft) {
    result.text = print(module);
    return result;
  }

  // weft -> tile: the kernel asked for, target-neutral.
  const KernelShape shape = shapeOf(request);
  const llvm::StringRef name = request.kernel;
  const bool plan = name.starts_with("plan_"),
             select = name.starts_with("pool_") || name.starts_with("select_") || name == "list_keys";
  step("build_kernel", [&] {
    if (plan) buildPlan(module, request.kernel, shape);
    else if (select) buildSelect(module, request.kernel, shape);
    else buildKernel(module, request.kernel, shape);
    simplify(module);
  });
  // tile: what a row of tiles has in common (ranges of its own inputs, above all) leaves the loop over the other side.
  if (plan || select) step("hoist_invariants", [&] { hoistInvariants(module); });
  tile::KernelOp kernel = *module.getOps<tile::KernelOp>().begin();
  if (request.stage == Stage::Tile) {
    llvm::raw_string_ostream stream(result.text);
    kernel.print(stream);
    result.text += "\n";
    return result;
  }

  // tile: functions of the language become arithmetic.
  step("expand_functions", [&] {
    expandFunctions(module);
    simplify(module);
  });

  // tile -> code of a GPU's thread, or vector code of a CPU.
  const bool gpu = isGpu(request.target);
  target::Machine machine{1, 255};
  if (gpu) {
    step("hoist_loads", [&] { hoistLoads(module); });
    step("place_operands", [&] { placeOperands(module, request.schedule.stages); });
    nvptx::LowerOptions options{request.type, request.variant->listedDims(), request.schedule.order, request.paged};
    step("lower_kernel", [&] { result.image = nvptx::lowerKernel(module, kernel, options); });
  } else {
    machine = cpu::machineOf(request.target);
    cpu::LowerOptions options{
        machine,      request.type, request.variant->listedDims(), request.schedule.order, request.schedule.blockRows,
        request.paged};
    step("lower_kernel", [&] { result.image = cpu::lowerKernel(module, kernel, options); });
    if (!cpu::hasFeatures(request.target, "+avx512bf16") && !cpu::hasFeatures(request.target, "+avxneconvert"))
      step("expand_bf16", [&] { cpu::expandBf16(module); });
  }
  kernel.erase();
  step("expand_exp", [&] { target::expandExp(module, machine); });
  for (auto program : llvm::make_early_inc_range(module.getOps<dialect::PairwiseOp>())) program.erase();
  module->removeAttr("weft.inputs");
  module->removeAttr("weft.normalize");
  module->removeAttr("weft.also");
  module->removeAttr("weft.pools");
  if (request.stage == Stage::Vector) {
    result.text = print(module);
    return result;
  }

  // vector -> LLVM IR -> code.
  if (gpu) {
    std::string code = nvptx::generate(module, request.target,
                                       request.stage == Stage::Llvm ? nvptx::Output::Llvm : nvptx::Output::Ptx);
    (request.stage == Stage::Object ? result.image.code : result.text) = std::move(code);
    return result;
  }
  const cpu::Output output = request.stage == Stage::Llvm       ? cpu::Output::Llvm
                             : request.stage == Stage::Assembly ? cpu::Output::Assembly
                                                                : cpu::Output::Object;
  std::string code = cpu::generate(module, request.target, output, plan || select);
  if (request.stage == Stage::Object) result.image.code = std::move(code);
  else result.text = std::move(code);
  return result;
}

int64_t sharedBytesOf(const CompileRequest &request) {
  auto context = makeContext();
  mlir::OwningOpRef<mlir::ModuleOp> owner = lowerAst(request.variant->tree(), *context);
  mlir::ModuleOp module = *owner;
  simplify(module);
  differentiate(module);
  simplify(module);
  buildKernel(module, request.kernel, shapeOf(request));
  simplify(module);
  hoistLoads(module);
  placeOperands(module, request.schedule.stages);
  return nvptx::sharedBytesOf(*module.getOps<tile::KernelOp>().begin(), request.type);
}

VariantFacts analyse(const ast::Variant &variant) {
  auto context = makeContext();
  mlir::OwningOpRef<mlir::ModuleOp> module = lowerAst(variant, *context);
  markExact(*module);
  differentiate(*module);
  VariantFacts facts;
  for (const ast::KeySet &set : variant.sets)
    if (planForm(*module, set.dim) == PlanForm::Lists) facts.lists.insert(set.dim);
  facts.per = gradientDependence(*module);
  return facts;
}

}  // namespace weft
