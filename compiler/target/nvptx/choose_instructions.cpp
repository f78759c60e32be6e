// Chooses the instruction of each product, and with it where and how tiles lie.
//
// Before: one tile.kernel without weft.map. After: products are cta.mma of a kind, tiles in registers have an encoding
// (#cta.mma_sync), operands are cta.load and cta.share: values in shared memory whose type says how they lie there. A
// tile that only tile.row_dot reads is not loaded at all (cta.row_dot); numbers of queries that lie across a thread's
// rows are in shared memory as well (cta.load_rows). The kernel has `cta.warps`. Test: choose_instructions.mlir
#include <numeric>

#include "compiler/dialect/cta.h"
#include "compiler/passes.h"
#include "compiler/target/tensors.h"

namespace weft {

#define GEN_PASS_DEF_CHOOSEINSTRUCTIONS
#include "compiler/Passes.h.inc"

namespace {

using mlir::Value;

/// Scalar programs have none: a thread or a warp runs them.
bool hasTiles(tile::KernelOp kernel) {
  return kernel
      .walk([](mlir::Operation *op) {
        const bool tile = llvm::any_of(op->getResultTypes(), llvm::IsaPred<mlir::RankedTensorType>);
        return tile ? mlir::WalkResult::interrupt() : mlir::WalkResult::advance();
      })
      .wasInterrupted();
}

/// Numbers of queries that are columns of all tiles that want them.
bool liesAcross(tile::LoadRowsOp op) {
  return !op.getResult().use_empty() && llvm::all_of(op.getResult().getUsers(), [](mlir::Operation *user) {
    auto pairs = mlir::dyn_cast<tile::PairwiseOp>(user);
    return pairs && pairs.getTransposed();
  });
}

/// Of the product that is added.
int64_t rowsOf(tile::DotIntoOp op) {
  const bool columns = op.getForm() == tile::DotForm::TN;
  if (auto shared = mlir::dyn_cast<cta::SharedType>(op.getLhs().getType()))
    return columns ? shared.columns() : shared.rows();
  return mlir::cast<mlir::RankedTensorType>(op.getLhs().getType()).getDimSize(columns);
}

/// The greatest number that divides the rows of all tiles in registers.
int64_t commonRows(tile::KernelOp kernel) {
  int64_t rows = 0;
  auto count = [&](Value value) {
    auto type = mlir::dyn_cast<mlir::RankedTensorType>(value.getType());
    auto numbers = value.getDefiningOp<tile::LoadRowsOp>();
    if (!type || value.getDefiningOp<tile::LoadOp>() || (numbers && liesAcross(numbers))) return;
    rows = std::gcd(rows, type.getDimSize(0));
  };
  kernel.walk([&](mlir::Block *block) { llvm::for_each(block->getArguments(), count); });
  kernel.walk([&](mlir::Operation *op) {
    llvm::for_each(op->getResults(), count);
    if (auto into = mlir::dyn_cast<tile::DotIntoOp>(op)) rows = std::gcd(rows, rowsOf(into));
  });
  return rows;
}

/// Warpgroups, up to 3, that have whole blocks of 64 rows of all tiles; 0: no blocks are whole.
int64_t warpgroupsOf(tile::KernelOp kernel) {
  const int64_t rows = commonRows(kernel);
  if (rows % 64) return 0;
  for (int64_t groups : {3, 2})
    if (rows / 64 % groups == 0) return groups;
  return 1;
}

/// A loop carries several tiles: their registers leave no room for further rows of a warp.
bool carriesSeveral(tile::KernelOp kernel) {
  bool several = false;
  kernel.walk([&](tile::ForOp loop) {
    several |= llvm::count_if(loop.getResults(), [](Value value) {
                 return mlir::cast<mlir::RankedTensorType>(value.getType()).getRank() == 2;
               }) > 1;
  });
  return several;
}

/// As many warps, up to 4, as have whole blocks of 16 rows of all tiles; of tiles that are less wide than high warps
/// take more rows where there is room: each reads its right sides half as often.
int64_t warpsOf(tile::KernelOp kernel) {
  int64_t most = commonRows(kernel);
  if (!carriesSeveral(kernel)) most = std::gcd(most, std::gcd<int64_t>(kernel.getTileQ(), kernel.getTileK()));
  for (int64_t warps : {4, 3, 2})
    if (most / 16 % warps == 0) return warps;
  return 1;
}

/// Bytes from row to row: whole steps of products, and an odd number of 16-byte chunks.
int64_t pitchOf(int64_t columns, int64_t elementBytes) {
  const int64_t padded = (columns + 15) / 16 * 16;
  return (padded * elementBytes / 16 | 1) * 16;
}

class Choice {
 public:
  Choice(tile::KernelOp kernel, bool warpgroups, bool pairs)
      : kernel(kernel),
        builder(kernel.getContext()),
        type(target::rowType(kernel)),
        pairs(pairs),
        warps(warpsOf(kernel)) {
    const int64_t groups = warpgroups && type != ElementType::F32 ? warpgroupsOf(kernel) : 0;
    if (groups) warps = 4 * groups;
    switch (type) {
      case ElementType::BF16:
        kind = groups ? cta::MmaKind::WgmmaBF16 : cta::MmaKind::BF16, element = builder.getBF16Type();
        break;
      case ElementType::F16:
        kind = groups ? cta::MmaKind::WgmmaF16 : cta::MmaKind::F16, element = builder.getF16Type();
        break;
      default: kind = cta::MmaKind::TF32x3, element = builder.getF32Type();
    }
  }

  void run() {
    kernel.walk([&](tile::RowDotOp op) { chooseRowDot(op); });
    kernel.walk([&](tile::LoadOp op) { chooseLoad(op); });
    kernel.walk([&](tile::LoadRowsOp op) { chooseLoadRows(op); });
    kernel.walk([&](mlir::Operation *op) {
      if (auto dot = mlir::dyn_cast<tile::DotOp>(op)) chooseDot(dot);
      else if (auto into = mlir::dyn_cast<tile::DotIntoOp>(op)) chooseDotInto(into);
    });
    if (!cta::isWgmma(kind)) scaleEarly();
    const auto layout = cta::MmaSyncAttr::get(builder.getContext(), warps);
    auto encode = [&](Value value) {
      auto own = mlir::dyn_cast<mlir::RankedTensorType>(value.getType());
      if (own) value.setType(mlir::RankedTensorType::get(own.getShape(), own.getElementType(), layout));
    };
    kernel.walk([&](mlir::Block *block) { llvm::for_each(block->getArguments(), encode); });
    kernel.walk([&](mlir::Operation *op) { llvm::for_each(op->getResults(), encode); });
    kernel->setAttr(cta::warps, builder.getI64IntegerAttr(warps));
  }

 private:
  tile::KernelOp kernel;
  mlir::OpBuilder builder;
  const ElementType type;
  const bool pairs;  ///< atomic sums of two neighbours at once
  int64_t warps;
  cta::MmaKind kind = cta::MmaKind::BF16;
  mlir::Type element;
  llvm::DenseMap<Value, Value> shares;  ///< of tiles from registers

  static llvm::ArrayRef<int64_t> shapeOf(Value value) {
    return mlir::cast<mlir::RankedTensorType>(value.getType()).getShape();
  }
  cta::SharedType sharedOf(Value tile) {
    const auto shape = shapeOf(tile);
    mlir::Attribute layout = cta::SwizzledAttr::get(builder.getContext());
    if (!cta::isWgmma(kind)) layout = cta::PaddedAttr::get(builder.getContext(), pitchOf(shape[1], bytesOf(type)));
    return cta::SharedType::get(builder.getContext(), shape, element, layout);
  }

  /// Where it is decided whether sums are scaled, a branch, nothing is under way yet: what comes behind it,
  /// exponentials and the product that is added, mixes freely.
  void scaleEarly() {
    kernel.walk([](tile::ScaleRowsOp op) {
      mlir::Operation *rows = op.getFactors().getDefiningOp();
      if (rows && rows->getBlock() == op->getBlock() && mlir::isa<mlir::BlockArgument>(op.getTile()))
        op->moveAfter(rows);
    });
  }

  void chooseRowDot(tile::RowDotOp op) {
    auto lhs = op.getLhs().getDefiningOp<tile::LoadOp>(), rhs = op.getRhs().getDefiningOp<tile::LoadOp>();
    internalCheck(lhs && rhs && lhs.getBatch() == rhs.getBatch() && lhs.getHead() == rhs.getHead() &&
                      lhs.getIndex() == rhs.getIndex(),
                  "choose-instructions", "row_dot of other tiles than loads of the same rows");
    builder.setInsertionPoint(op);
    Value result =
        cta::RowDotOp::create(builder, op.getLoc(), op.getResult().getType(), lhs.getTensor(), rhs.getTensor(),
                              lhs.getBatch(), lhs.getHead(), lhs.getIndex(), shapeOf(lhs.getResult())[1]);
    op.getResult().replaceAllUsesWith(result);
    op.erase();
  }

  void chooseLoad(tile::LoadOp op) {
    if (!op.getResult().use_empty()) {
      builder.setInsertionPoint(op);
      Value result = cta::LoadOp::create(builder, op.getLoc(), sharedOf(op.getResult()), op.getTensor(), op.getBatch(),
                                         op.getHead(), op.getIndex());
      // Products take tensors until they are chosen themselves.
      op.getResult().replaceAllUsesWith(result);
    }
    op.erase();
  }

  /// Numbers of queries that are columns of tiles: all rows want all of them.
  void chooseLoadRows(tile::LoadRowsOp op) {
    if (!liesAcross(op)) return;
    const int64_t count = shapeOf(op.getResult())[0];
    const auto layout = cta::PaddedAttr::get(builder.getContext(), 4 * count);
    const auto shared = cta::SharedType::get(builder.getContext(), {1, count}, builder.getF32Type(), layout);
    builder.setInsertionPoint(op);
    Value result = cta::LoadRowsOp::create(builder, op.getLoc(), shared, op.getTensorAttr(), op.getBatch(),
                                           op.getHead(), op.getIndex(), op.getFillAttr());
    op.getResult().replaceAllUsesWith(result);
    op.erase();
  }

  /// The left side of a tn product, which all warps read.
  Value shared(Value tile) {
    if (mlir::isa<cta::SharedType>(tile.getType())) return tile;
    Value &share = shares[tile];
    if (share) return share;
    // Where products read it from registers as well, they go on while it is written and waited for.
    mlir::OpBuilder::InsertionGuard guard(builder);
    auto pairs = tile.getDefiningOp<tile::PairwiseOp>();
    if (pairs && pairs.getTransposed()) builder.setInsertionPointAfter(pairs);
    share = cta::ShareOp::create(builder, kernel.getLoc(), sharedOf(tile), tile);
    return share;
  }

  Value product(mlir::Location loc, tile::DotForm form, Value lhs, Value rhs, Value acc, mlir::Type result) {
    if (form == tile::DotForm::TN) lhs = shared(lhs);
    return cta::MmaOp::create(builder, loc, result, kind, form, lhs, rhs, acc);
  }

  void chooseDot(tile::DotOp op) {
    builder.setInsertionPoint(op);
    Value result = product(op.getLoc(), op.getForm(), op.getLhs(), op.getRhs(), op.getAcc(), op.getResult().getType());
    op.getResult().replaceAllUsesWith(result);
    op.erase();
  }

  void chooseDotInto(tile::DotIntoOp op) {
    builder.setInsertionPoint(op);
    const int64_t columns = mlir::cast<cta::SharedType>(op.getRhs().getType()).columns();
    const auto sums = mlir::RankedTensorType::get({rowsOf(op), columns}, builder.getF32Type());
    Value result = product(op.getLoc(), op.getForm(), op.getLhs(), op.getRhs(), {}, sums);
    cta::AddRowsOp::create(builder, op.getLoc(), result, op.getAtomic(), op.getAtomic() && pairs && columns % 2 == 0,
                           op.getTensor(), op.getBatch(), op.getHead(), op.getIndex());
    op.erase();
  }
};

struct ChooseInstructions : impl::ChooseInstructionsBase<ChooseInstructions> {
  using ChooseInstructionsBase::ChooseInstructionsBase;
  void runOnOperation() override {
    const bool chosen = attempt(getOperation(), [&] {
      getOperation().walk([&](tile::KernelOp kernel) {
        if (hasTiles(kernel)) Choice(kernel, warpgroups, pairs).run();
      });
    });
    if (!chosen) signalPassFailure();
  }
};

}  // namespace
}  // namespace weft
