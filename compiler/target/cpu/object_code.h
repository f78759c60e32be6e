// Vector-level functions to LLVM IR, assembly or an object file for a CPU.
#pragma once

#include <functional>
#include <string>

#include "compiler/target/emitter.h"
#include "llvm/IR/Module.h"
#include "mlir/IR/BuiltinOps.h"

namespace weft::cpu {

using target::Machine;

/// True for "host" and the names LLVM knows of this architecture, and of AArch64.
bool isKnownCpu(const std::string &cpu);
/// Lanes and registers of `cpu` ("host" or a name LLVM knows).
/// `floatBits`: of the floats in its registers.
Machine machineOf(const std::string &cpu, unsigned floatBits = 32);
/// True where `cpu` has all of them: "+avx512bf16,+avx512bw".
bool hasFeatures(const std::string &cpu, const std::string &features);
std::string hostDescription();

enum class Output { Llvm, Assembly, Object };

/// Consumes the func.func operations of `module`. Throws InternalError.
/// `scalar`: the module is a scalar program (a plan or a selection), whose loops LLVM makes vectors of.
std::string generate(mlir::ModuleOp module, const std::string &cpu, Output output, bool scalar);
/// An object file of what `build` writes into an empty module, LLVM IR.
std::string generate(const std::string &cpu, const std::function<void(llvm::Module &)> &build);

}  // namespace weft::cpu
