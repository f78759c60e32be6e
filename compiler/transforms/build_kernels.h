// The `weft` dialect to attention kernels in the `tile` dialect.
//
// Before: weft.pairwise @forward, @backward, ... After: also tile.kernel @forward and @backward_delta (the
// normaliser's, see compiler/normalizers), @backward (fused: one program a batch and key head), @backward_queries
// (fused, one program a tile of queries), @backward_keys with @backward_sink (fused, one program a tile of keys),
// @backward_dq and @backward_dkdv (the same in two passes, for when there are few heads).
#pragma once

#include <map>
#include <string>

#include "compiler/dialect/dialects.h"
#include "compiler/kernel_image.h"
#include "mlir/IR/BuiltinOps.h"

namespace weft {

struct KernelShape {
  std::map<std::string, int64_t> dims;  ///< compile-time sizes of the dims that dots and v end in
  int tileQ = 64;
  int tileK = 64;
  ElementType type = ElementType::F32;  ///< of rows
  bool wideSums = false;                ///< of entries that many pairs share: f64
  bool sharedRows = false;              ///< several threads hold a row: what rows cost a turn counts (softmax.cpp)
};

/// What each small float input's gradient depends on besides b and h: head, query, key or any.
std::map<std::string, dialect::Dependence> gradientDependence(mlir::ModuleOp module);

/// Name of the kernel: forward, backward, backward_queries, backward_sink, backward_delta, backward_dq, or
/// backward_dkdv and backward_keys (of other keys than v's: with their dim, as in backward_dkdv.N).
void buildKernel(mlir::ModuleOp module, const std::string &kernel, const KernelShape &shape);

/// True for the kernels that find kept tiles or choose them: their programs are scalar code, not products of tiles.
inline bool isScalarProgram(llvm::StringRef kernel) {
  return kernel.starts_with("plan_") || kernel.starts_with("pool_") || kernel.starts_with("select_") ||
         kernel == "list_keys";
}

}  // namespace weft
