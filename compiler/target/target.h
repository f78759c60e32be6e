// What the compiler asks of a target: one is a folder here and a line in registry.cpp.
#pragma once

#include "compiler/compiler.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"

namespace weft::target {

class Target {
 public:
  virtual ~Target() = default;

  /// True for the names that this target answers for, also those that it does not know: of one registry line only.
  virtual bool claims(const std::string &name) const = 0;
  virtual bool knows(const std::string &name) const = 0;
  virtual bool isGpu() const = 0;

  /// From a tile.kernel to the target's dialect level: one function that says what its image is (see image.h).
  virtual void addPasses(mlir::OpPassManager &passes, const CompileRequest &request) const = 0;
  /// LLVM IR, assembly or code, as the request's stage says, from that level; consumes `module`. Throws InternalError.
  virtual std::string generate(mlir::ModuleOp module, const CompileRequest &request) const = 0;

  /// What runs well without tuning (see default_schedule.h).
  virtual Schedule defaultSchedule(const Variant &variant, const std::string &name,
                                   const std::map<std::string, int64_t> &dims, bool backward, ElementType type,
                                   int64_t sharedBytes) const = 0;
  /// Shared memory that a block of a kernel takes, of the module that buildTiles gives; consumes it. 0 on a CPU.
  virtual int64_t sharedBytes(mlir::ModuleOp module, const CompileRequest &request) const = 0;
  /// The part of a schedule that is this target's own, in words.
  virtual std::string describe(const Schedule &schedule) const = 0;
};

const Target &targetOf(const std::string &name);

}  // namespace weft::target
