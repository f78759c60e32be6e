// Turns tiles of pairs to [key, query] where all that is made of them is summed over queries.
//
// Before: tile.dot of form tn takes tiles of a tile.pairwise from registers, whose rows are queries: other warps have
// written them, so that they would pass through shared memory. After: such a pairwise is `transposed`, the products
// that it reads have their sides exchanged, and those that read it are of form nn: a warp's rows are keys from the
// first product to the sums. Products over keys that are added in memory become of form tn instead. All or nothing of a
// pairwise. Test: orient_products.mlir
#include "compiler/passes.h"
#include "llvm/ADT/STLExtras.h"

namespace weft {

#define GEN_PASS_DEF_ORIENTPRODUCTS
#include "compiler/Passes.h.inc"

namespace {

using mlir::Value;

/// A product of query rows and key rows that only `reader` reads.
bool canExchange(Value tile, tile::PairwiseOp reader) {
  auto dot = tile.getDefiningOp<tile::DotOp>();
  return dot && dot.getForm() == tile::DotForm::NT && !dot.getAcc() &&
         llvm::all_of(tile.getUsers(), [&](mlir::Operation *user) { return user == reader; });
}

/// By one product at least; others may add sums over keys in memory.
bool isSummedOverQueries(Value tile) {
  bool summed = false;
  return llvm::all_of(tile.getUses(),
                      [&](mlir::OpOperand &use) {
                        if (auto into = mlir::dyn_cast<tile::DotIntoOp>(use.getOwner()))
                          return into.getForm() == tile::DotForm::NN && &use == &into.getLhsMutable();
                        auto dot = mlir::dyn_cast<tile::DotOp>(use.getOwner());
                        const bool own = dot && dot.getForm() == tile::DotForm::TN && &use == &dot.getLhsMutable();
                        summed |= own;
                        return own;
                      }) &&
         summed;
}

/// Sums that want queries for rows, or heads.
bool sumsUp(tile::PairwiseOp op) {
  bool sums = !op.getReductions().empty() || op->getParentOfType<tile::KernelOp>().getRows() != tile::Rows::Queries;
  op.getBody().walk([&](dialect::AccumulateOp sum) {
    sums |= sum.getPer() != dialect::Dependence::Head && sum.getPer() != dialect::Dependence::Query;
  });
  return sums;
}

/// Numbers of queries that it alone reads, so that they may come another way.
bool canReadAcross(Value numbers, tile::PairwiseOp reader) {
  return numbers.getDefiningOp<tile::LoadRowsOp>() &&
         llvm::all_of(numbers.getUsers(), [&](mlir::Operation *user) { return user == reader; });
}

bool canTurn(tile::PairwiseOp op) {
  return !op.getTransposed() && op.getNumResults() > 0 && !sumsUp(op) &&
         llvm::all_of(op.getRows(), [&](Value numbers) { return canReadAcross(numbers, op); }) &&
         llvm::all_of(op.getTiles(), [&](Value tile) { return canExchange(tile, op); }) &&
         llvm::all_of(op.getResults(), isSummedOverQueries);
}

void turnType(Value tile) {
  auto type = mlir::cast<mlir::RankedTensorType>(tile.getType());
  const auto shape = type.getShape();
  tile.setType(mlir::RankedTensorType::get({shape[1], shape[0]}, type.getElementType()));
}

void exchangeSides(tile::DotOp dot) {
  Value lhs = dot.getLhs();
  dot.getLhsMutable().assign(dot.getRhs());
  dot.getRhsMutable().assign(lhs);
  turnType(dot.getResult());
}

void turn(tile::PairwiseOp op) {
  llvm::SmallPtrSet<mlir::Operation *, 4> products;
  for (Value tile : op.getTiles()) products.insert(tile.getDefiningOp());
  for (mlir::Operation *product : products) exchangeSides(mlir::cast<tile::DotOp>(product));
  op.setTransposed(true);
  for (Value tile : op.getResults()) {
    turnType(tile);
    for (mlir::Operation *user : tile.getUsers()) {
      if (auto into = mlir::dyn_cast<tile::DotIntoOp>(user)) into.setForm(tile::DotForm::TN);
      else mlir::cast<tile::DotOp>(user).setForm(tile::DotForm::NN);
    }
  }
}

struct OrientProducts : impl::OrientProductsBase<OrientProducts> {
  void runOnOperation() override {
    getOperation().walk([](tile::PairwiseOp op) {
      if (canTurn(op)) turn(op);
    });
  }
};

}  // namespace
}  // namespace weft
