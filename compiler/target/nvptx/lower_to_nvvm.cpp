// Kernels over tiles to the code of one thread.
//
// Before: one tile.kernel on the cta level (see CtaDialect.td), its buffers placed and its barriers inserted, or a
// scalar program. After: llvm.func @<kernel>(slots), an nvvm kernel of scf, arith, math and llvm operations. A program
// of tiles is a CTA; a scalar program is a warp where its turns can be shared, else a thread. Test: lower_nvptx.mlir
#include "compiler/compiler.h"
#include "compiler/passes.h"
#include "compiler/target/grid.h"
#include "compiler/target/image.h"
#include "compiler/target/nvptx/kernel_code.h"
#include "compiler/transforms/signature.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

namespace weft::nvptx {
namespace {

namespace llvmir = mlir::LLVM;

constexpr unsigned sharedSpace = 3;
constexpr int scalarThreads = 32;  ///< of a CTA

/// What runs a program.
enum class Runner { Cta, Warp, Thread };

Runner runnerOf(tile::KernelOp kernel) {
  if (kernel->hasAttr(cta::warps)) return Runner::Cta;
  bool turnsShared = false;
  kernel.walk([&](mlir::Operation *op) {
    turnsShared |= op->hasAttr(tile::independentTurns) || mlir::isa<tile::PoolRowsOp>(op);
  });
  return turnsShared ? Runner::Warp : Runner::Thread;
}

bool usesWorkspace(tile::KernelOp kernel) {
  const auto name = mlir::FlatSymbolRefAttr::get(kernel.getContext(), workspace);
  bool uses = false;
  kernel.walk([&](mlir::Operation *op) { uses |= op->getAttr("tensor") == name; });
  return uses;
}

std::vector<TensorMapSlot> mapsOf(tile::KernelOp kernel, const target::KernelArguments &slots) {
  std::vector<TensorMapSlot> maps;
  kernel.walk([&](cta::RingOp ring) {
    const std::optional<TensorMapSlot> map = mapOf(slots, ring);
    if (map && !llvm::is_contained(maps, *map)) maps.push_back(*map);
  });
  return maps;
}

bool hasRoles(tile::KernelOp kernel) { return !kernel.getBody().front().getOps<cta::RolesOp>().empty(); }

/// One block an SM is enough: else ptxas spills to fit more. Of one consuming warpgroup two, where memory allows: one
/// multiplies while the other does not.
int64_t residentsOf(tile::KernelOp kernel) {
  constexpr int64_t sharedOfSm = 228 << 10, reserved = 1 << 10;
  auto warps = kernel->getAttrOfType<mlir::IntegerAttr>(cta::warps);
  auto shared = kernel->getAttrOfType<mlir::IntegerAttr>(cta::sharedBytes);
  if (!hasRoles(kernel) || !shared || warps.getInt() > 4) return 1;
  return 2 * (shared.getInt() + reserved) <= sharedOfSm ? 2 : 1;
}

/// One comes before any kernel of roles in a call. What it does to the count later changes nothing: it is zero then.
bool findsKeptTiles(tile::KernelOp kernel) { return kernel.getSymName().split('.').second.starts_with("plan_"); }

void lowerKernel(mlir::ModuleOp module, tile::KernelOp kernel, bool roles) {
  const Runner runner = runnerOf(kernel);
  const bool workspaces = usesWorkspace(kernel);
  KernelCode code(module, kernel);
  mlir::OpBuilder &builder = code.builder;
  Emitter &emit = code.emit;
  builder.setInsertionPointToEnd(module.getBody());
  auto shared = llvmir::GlobalOp::create(builder, emit.loc, llvmir::LLVMArrayType::get(builder.getIntegerType(8), 0),
                                         false, llvmir::Linkage::External, "weft_shared", mlir::Attribute(),
                                         cta::hasSwizzled(kernel) ? cta::SwizzledAttr::alignment : 16, sharedSpace);
  auto type = llvmir::LLVMFunctionType::get(llvmir::LLVMVoidType::get(builder.getContext()),
                                            {llvmir::LLVMPointerType::get(builder.getContext())});
  auto function = llvmir::LLVMFuncOp::create(builder, emit.loc, target::entryName(kernel), type);
  mlir::Block *entry = function.addEntryBlock(builder);
  builder.setInsertionPointToStart(entry);
  llvmir::ReturnOp::create(builder, emit.loc, mlir::ValueRange());
  builder.setInsertionPoint(entry->getTerminator());
  code.entry = entry;
  code.arguments = entry->getArgument(0);
  code.maps = mapsOf(kernel, code.slots);
  const int64_t mapWords = TensorMapSlot::words * static_cast<int64_t>(code.maps.size());
  code.slots.setEntry(entry, code.arguments, mapWords);
  code.sharedBase =
      llvmir::AddressOfOp::create(builder, emit.loc, llvmir::LLVMPointerType::get(builder.getContext(), sharedSpace),
                                  shared.getSymName());
  code.thread.begin();
  code.residents = residentsOf(kernel);

  target::ProgramGrid grid(emit, code.slots, kernel);
  Value block = emit.toI64(mlir::NVVM::BlockIdXOp::create(builder, emit.loc, builder.getI32Type()));
  code.programs = grid.programs();
  code.enterProgram = [&](Value p) {
    grid.bind(p, code.scalars);
    if (workspaces)
      code.plan.workspace = emit.at(code.slots.pointer(workspace), emit.mul(p, code.slots.dim(workspaceRow)));
  };
  auto program = [&](Value p) {
    code.enterProgram(p);
    code.lower(kernel.getBody().front());
  };
  if (roles && findsKeptTiles(kernel)) {
    Value first =
        mlir::arith::CmpIOp::create(emit.b, emit.loc, mlir::arith::CmpIPredicate::eq,
                                    mlir::arith::OrIOp::create(emit.b, emit.loc, emit.toI32(block), code.thread.number),
                                    emit.i32(0));
    emit.when(first, [&] { emit.store(emit.i32(0), code.slots.pointer(takenPrograms)); });
  }
  if (runner == Runner::Warp) code.plan.lanes = code.thread.lanes();
  if (runner == Runner::Thread) {
    Value p = emit.add(emit.mul(block, emit.i64(scalarThreads)), emit.toI64(code.thread.number));
    emit.when(emit.less(p, code.programs), [&] { program(p); });
  } else if (hasRoles(kernel)) {
    code.lower(kernel.getBody().front());
  } else {
    program(block);
  }

  int threads = runner == Runner::Cta ? static_cast<int>(code.thread.threads()) : scalarThreads;
  if (hasRoles(kernel)) threads += producerThreads;
  const size_t words = mapWords + std::max<size_t>(code.slots.list.size(), 1);
  function.setArgAttr(0, llvmir::LLVMDialect::getByValAttrName(),
                      mlir::TypeAttr::get(llvmir::LLVMArrayType::get(builder.getI64Type(), words)));
  function.setArgAttr(0, llvmir::LLVMDialect::getAlignAttrName(), builder.getI64IntegerAttr(mapWords ? 64 : 8));
  // TMA reads its maps where the launch has put them.
  if (mapWords) function.setArgAttr(0, mlir::NVVM::NVVMDialect::getGridConstantAttrName(), builder.getUnitAttr());
  function->setAttr(mlir::NVVM::NVVMDialect::getKernelFuncAttrName(), builder.getUnitAttr());
  function->setAttr(mlir::NVVM::NVVMDialect::getReqntidAttrName(), builder.getDenseI32ArrayAttr({threads}));
  function->setAttr(mlir::NVVM::NVVMDialect::getMinctasmAttrName(),
                    builder.getI32IntegerAttr(static_cast<int32_t>(code.residents)));

  KernelImage image = grid.image(function.getSymName());
  image.threads = threads;
  image.maps = code.maps;
  if (hasRoles(kernel)) image.residents = static_cast<int>(code.residents);
  image.programsPerBlock = runner == Runner::Thread ? scalarThreads : 1;
  if (auto bytes = kernel->getAttrOfType<mlir::IntegerAttr>(cta::sharedBytes)) image.sharedBytes = bytes.getInt();
  target::describeImage(function, image);
}

}  // namespace
}  // namespace weft::nvptx

namespace weft {

#define GEN_PASS_DEF_LOWERTONVVM
#include "compiler/Passes.h.inc"

namespace {

struct LowerToNvvm : impl::LowerToNvvmBase<LowerToNvvm> {
  using LowerToNvvmBase::LowerToNvvmBase;

  void runOnOperation() override {
    mlir::ModuleOp module = getOperation();
    const bool lowered = attempt(module, [&] {
      for (auto kernel : llvm::make_early_inc_range(module.getOps<tile::KernelOp>())) {
        nvptx::lowerKernel(module, kernel, roles);
        kernel.erase();
      }
    });
    if (!lowered) return signalPassFailure();
  }
};

}  // namespace
}  // namespace weft
