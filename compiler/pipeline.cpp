#include "compiler/pipeline.h"

#include "compiler/dialect/cpu.h"
#include "compiler/dialect/cta.h"
#include "compiler/dialect/dialects.h"
#include "compiler/dump.h"
#include "compiler/internal_error.h"
#include "compiler/language/ast.h"
#include "compiler/passes.h"
#include "compiler/target/image.h"
#include "compiler/target/target.h"
#include "compiler/transforms/build_kernels.h"
#include "compiler/transforms/build_plan.h"
#include "compiler/transforms/lower_ast.h"
#include "llvm/Support/raw_ostream.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"

namespace weft {
namespace {

/// Of a call with rows of this type.
std::unique_ptr<mlir::MLIRContext> makeContext(ElementType rows) {
  auto context = std::make_unique<mlir::MLIRContext>(mlir::MLIRContext::Threading::DISABLED);
  context->loadDialect<dialect::WeftDialect, tile::TileDialect, cpu::CpuDialect, cta::CtaDialect,
                       mlir::arith::ArithDialect, mlir::math::MathDialect, mlir::scf::SCFDialect,
                       mlir::vector::VectorDialect, mlir::LLVM::LLVMDialect, mlir::NVVM::NVVMDialect,
                       mlir::func::FuncDialect, mlir::cf::ControlFlowDialect>();
  context->getLoadedDialect<dialect::WeftDialect>()->wide = floatsBeside(rows) == ElementType::F64;
  return context;
}

/// From a checked variant's programs to its derivatives, in the `weft` dialect.
void addVariantPasses(mlir::OpPassManager &passes) {
  passes.addPass(mlir::createCSEPass());
  // Int arithmetic that cannot overflow says so; the rest saturates.
  passes.addPass(createMarkExact());
  // @backward, by reverse-mode differentiation.
  passes.addPass(createDifferentiate());
  passes.addPass(mlir::createCSEPass());
}

/// From there to the kernel asked for, in the `tile` dialect: for any target.
void addKernelPasses(mlir::OpPassManager &passes, const CompileRequest &request) {
  BuildKernelOptions options;
  options.kernel = request.kernel;
  for (const auto &[dim, size] : request.dims) options.dims.push_back(dim + "=" + std::to_string(size));
  const Schedule schedule = scheduleOf(request.schedule, request.kernel);
  options.tileQ = schedule.tileQ;
  options.tileK = schedule.tileK;
  options.type = name(request.type);
  options.headsInner = request.schedule.order == Order::HeadsInner;
  options.paged = request.paged;
  options.sharedRows = isGpu(request.target);
  options.wideSums = !isGpu(request.target);
  passes.addPass(createBuildKernel(options));
  passes.addPass(mlir::createCSEPass());
  // What a row of tiles has in common (ranges of its own inputs, above all) leaves the loop over the other side.
  if (isScalarProgram(request.kernel)) passes.addPass(mlir::createLoopInvariantCodeMotionPass());
}

/// From there to the target's own level.
void addTargetPasses(mlir::OpPassManager &passes, const CompileRequest &request) {
  passes.addPass(createExpandFunctions());
  passes.addPass(mlir::createCSEPass());
  passes.addPass(createVerifyConsumed());
  target::targetOf(request.target).addPasses(passes, request);
}

/// Throws InternalError with what the pass that fails has to say.
template <class Add>
void run(mlir::ModuleOp module, Dump &dump, Add add) {
  std::string errors;
  mlir::ScopedDiagnosticHandler handler(module.getContext(), [&](mlir::Diagnostic &diagnostic) {
    errors += (errors.empty() ? "" : "; ") + diagnostic.str();
    return mlir::success();
  });
  mlir::PassManager passes(module.getContext());
  dump.attach(passes);
  add(passes);
  if (mlir::failed(passes.run(module))) throw InternalError("pipeline", errors);
}

template <class Op>
std::string print(Op op) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  op.print(stream);
  return text;
}

}  // namespace

CompileResult runPipeline(const CompileRequest &request) {
  CompileResult result;
  const ast::Variant &variant = request.variant->tree();
  if (request.stage == Stage::Ast) {
    result.text = ast::print(variant);
    return result;
  }
  auto context = makeContext(request.type);
  mlir::OwningOpRef<mlir::ModuleOp> module = lowerAst(variant, *context);
  Dump dump(request.dumpDirectory, variant.name + "." + request.kernel);
  if (!request.dumpDirectory.empty()) dump.write("lower-ast", "mlir", print(*module));

  run(*module, dump, addVariantPasses);
  if (request.stage == Stage::Weft) {
    result.text = print(*module);
    return result;
  }

  run(*module, dump, [&](mlir::OpPassManager &passes) { addKernelPasses(passes, request); });
  if (request.stage == Stage::Tile) {
    result.text = print(*module);
    return result;
  }

  run(*module, dump, [&](mlir::OpPassManager &passes) { addTargetPasses(passes, request); });
  result.image = target::imageOf(*module);
  if (request.stage == Stage::Vector) {
    result.text = print(*module);
    return result;
  }

  std::string code = target::targetOf(request.target).generate(*module, request);
  (request.stage == Stage::Object ? result.image.code : result.text) = std::move(code);
  return result;
}

OwnedModule buildTiles(const CompileRequest &request) {
  OwnedModule owned{makeContext(request.type), {}};
  owned.module = lowerAst(request.variant->tree(), *owned.context);
  Dump nowhere("", "");
  run(*owned.module, nowhere, [&](mlir::OpPassManager &passes) {
    addVariantPasses(passes);
    addKernelPasses(passes, request);
  });
  return owned;
}

VariantFacts analyse(const ast::Variant &variant) {
  auto context = makeContext(ElementType::F32);
  mlir::OwningOpRef<mlir::ModuleOp> module = lowerAst(variant, *context);
  Dump nowhere("", "");
  run(*module, nowhere, addVariantPasses);
  VariantFacts facts;
  for (const ast::KeySet &set : variant.sets)
    if (planForm(*module, set.dim) == PlanForm::Lists) facts.lists.insert(set.dim);
  for (const auto &[input, per] : gradientDependence(*module)) facts.per[input] = stringifyDependence(per).str();
  return facts;
}

}  // namespace weft
