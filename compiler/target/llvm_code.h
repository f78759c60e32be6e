// The last steps, the same for every target: scf, arith, math, vector to LLVM IR, optimised, to a file.
#pragma once

#include <memory>
#include <string>

#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Target/TargetMachine.h"
#include "mlir/IR/BuiltinOps.h"

namespace weft::target {

/// Consumes the functions of `module`. Throws InternalError, as do all here.
std::unique_ptr<llvm::Module> toLlvmIr(mlir::ModuleOp module, llvm::LLVMContext &context, llvm::TargetMachine &target);
/// What the loops of a program are. Vectors: code of vectors already, unrolled where that pays; unrolled once more they
/// took a third of the time here, and ran no faster. Unroll: vectors or a GPU thread's own, to be unrolled here.
/// Scalar: of one number a turn.
enum class Loops { Vectors, Unroll, Scalar };
void optimize(llvm::Module &module, llvm::TargetMachine &target, Loops own);
/// Assembly text, or an object file.
std::string emitFile(llvm::Module &module, llvm::TargetMachine &target, bool assembly, Loops own);

}  // namespace weft::target
