// Vector-level functions to LLVM IR, assembly or an object file for a CPU.
#pragma once

#include <string>

#include "compiler/target/emitter.h"
#include "mlir/IR/BuiltinOps.h"

namespace weft::cpu {

using target::Machine;

/// True for "host" and the names LLVM knows of this architecture.
bool isKnownCpu(const std::string &cpu);
/// Lanes and registers of `cpu` ("host" or a name LLVM knows).
Machine machineOf(const std::string &cpu);
std::string hostDescription();

enum class Output { Llvm, Assembly, Object };

/// Consumes the func.func operations of `module`. Throws InternalError.
/// `scalar`: the module is a scalar program (a plan or a selection), whose loops LLVM makes vectors of.
std::string generate(mlir::ModuleOp module, const std::string &cpu, Output output, bool scalar);

}  // namespace weft::cpu
