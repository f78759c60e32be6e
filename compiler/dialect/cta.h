// The `cta` dialect's C++ classes.
#pragma once

#include "compiler/dialect/dialects.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

#include "compiler/dialect/CtaDialect.h.inc"
#include "compiler/dialect/CtaEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "compiler/dialect/CtaAttributes.h.inc"
#define GET_TYPEDEF_CLASSES
#include "compiler/dialect/CtaTypes.h.inc"
#define GET_OP_CLASSES
#include "compiler/dialect/CtaOps.h.inc"

namespace weft::cta {

/// By a warpgroup, whose operands in shared memory are swizzled.
inline bool isWgmma(MmaKind kind) { return kind == MmaKind::WgmmaBF16 || kind == MmaKind::WgmmaF16; }
inline bool isBf16(MmaKind kind) { return kind == MmaKind::BF16 || kind == MmaKind::WgmmaBF16; }
inline bool isF16(MmaKind kind) { return kind == MmaKind::F16 || kind == MmaKind::WgmmaF16; }

/// cta.load or cta.load_rows.
inline bool isLoad(mlir::Operation *op) { return mlir::isa<LoadOp, LoadRowsOp>(op); }
/// The first and the last operation of `block` that use a value, or hold one that does; null where none does.
std::pair<mlir::Operation *, mlir::Operation *> usersIn(mlir::Block &block, mlir::Value value);
/// Of an async product: see cta.wait_mma.
int64_t groupsOf(MmaOp product);

/// Some buffer of the kernel is swizzled.
bool hasSwizzled(tile::KernelOp kernel);

/// Of a tile.kernel: bytes of shared memory that a thread block takes, an i64, set by allocate-shared.
inline constexpr const char *sharedBytes = "cta.shared_bytes";
/// Of a tile.kernel: warps of a thread block, an i64, set by choose-instructions.
inline constexpr const char *warps = "cta.warps";
/// Of loops over kept tiles in both roles: which tile a turn is of, and whether it is full, comes with a ring's tile.
inline constexpr const char *carriedTurns = "cta.carried_turns";
/// Of a warpgroup, which starts products together.
inline constexpr int64_t warpsOfGroup = 4;

}  // namespace weft::cta
