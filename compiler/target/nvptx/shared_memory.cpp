// Buffers in shared memory: where they are, and when all threads see what was written there.
#include "compiler/target/nvptx/kernel_code.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

namespace weft::nvptx {

namespace nvvm = mlir::NVVM;

void KernelCode::fenceAsync() {
  mlir::MLIRContext *context = builder.getContext();
  nvvm::FenceProxyOp::create(builder, emit.loc, nvvm::ProxyKindAttr::get(context, nvvm::ProxyKind::async_shared),
                             nvvm::SharedSpaceAttr::get(context, nvvm::SharedSpace::shared_cta));
}

void lower(KernelCode &code, cta::AllocOp op) {
  internalCheck(op.getOffset().has_value(), "nvptx lowering", "a buffer without a place");
  Value offset = code.emit.i32(static_cast<int64_t>(*op.getOffset()));
  code.buffers[op.getResult()] = {op.getResult().getType(),
                                  code.emit.at(code.sharedBase, offset, code.builder.getIntegerType(8))};
}

void lower(KernelCode &code, cta::StageOp op) {
  const SharedTile whole = code.buffer(op.getBuffer());
  Value offset = code.emit.mul(code.plan.plain(op.getIndex()), code.emit.i32(whole.type.tileBytes()));
  code.buffers[op.getResult()] = {op.getResult().getType(),
                                  code.emit.at(whole.base, offset, code.builder.getIntegerType(8))};
}

void lower(KernelCode &code, cta::CommitGroupOp) { nvvm::CpAsyncCommitGroupOp::create(code.builder, code.emit.loc); }
void lower(KernelCode &code, cta::WaitGroupOp op) {
  nvvm::CpAsyncWaitGroupOp::create(code.builder, code.emit.loc, op.getLeft());
}
void lower(KernelCode &code, cta::FenceAsyncOp) { code.fenceAsync(); }
void lower(KernelCode &code, cta::BarrierOp) {
  if (!code.hasRoles) {
    nvvm::BarrierOp::create(code.builder, code.emit.loc);
    return;
  }
  // Number 0 is of all threads.
  nvvm::BarrierOp::create(code.builder, code.emit.loc, mlir::TypeRange(), code.emit.i32(1),
                          code.emit.i32(code.thread.threads()), nvvm::BarrierReductionAttr(), Value());
}

}  // namespace weft::nvptx
