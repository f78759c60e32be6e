// The compiler's passes as MLIR knows them: create...() makes one, with options where Passes.td lists some.
#pragma once

#include "compiler/dialect/cpu.h"
#include "compiler/dialect/cta.h"
#include "compiler/dialect/dialects.h"
#include "compiler/internal_error.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Pass/Pass.h"

namespace weft {

#define GEN_PASS_DECL
#include "compiler/Passes.h.inc"

/// Runs a pass's work on `module`; false, with the module's error, where it throws.
template <class Work>
bool attempt(mlir::ModuleOp module, Work work) {
  try {
    work();
    return true;
  } catch (const InternalError &error) {
    module.emitError(error.what());
    return false;
  }
}

}  // namespace weft
