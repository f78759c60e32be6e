// Kernel functions to LLVM IR or PTX text for an NVIDIA GPU.
#pragma once

#include <string>

#include "mlir/IR/BuiltinOps.h"

namespace weft::nvptx {

/// True for names such as "sm_80" or "sm_90a" that LLVM can generate for, from sm_80 on.
bool isKnownTarget(const std::string &name);

enum class Output { Llvm, Ptx };

/// Consumes the functions of `module`. Throws InternalError.
std::string generate(mlir::ModuleOp module, const std::string &target, Output output);

}  // namespace weft::nvptx
