// Decides where a GPU keeps each operand of a product, and how far ahead of its use it is fetched.
//
// Before: tile.load without a place. After: each has `place`: stream (changes with every turn of a loop over kept
// tiles: shared memory, `stages` tiles of it, copied that many turns less one ahead), shared (copied where it
// stands) or global (read once, where it is, by tile.row_dot).
// Test: place_operands.mlir
#include "compiler/passes.h"
#include "llvm/ADT/STLExtras.h"

namespace weft {

#define GEN_PASS_DEF_PLACEOPERANDS
#include "compiler/Passes.h.inc"

namespace {

struct PlaceOperands : impl::PlaceOperandsBase<PlaceOperands> {
  using PlaceOperandsBase::PlaceOperandsBase;
  void runOnOperation() override {
    getOperation().walk([&](tile::LoadOp load) {
      const bool once = llvm::all_of(load.getResult().getUsers(),
                                     [](mlir::Operation *user) { return mlir::isa<tile::RowDotOp>(user); });
      auto loop = mlir::dyn_cast<tile::ForOp>(load->getParentOp());
      const bool kept = loop && loop.overKept();
      const bool streamed = kept && load.getIndex() == loop.getBody().front().getArgument(0);
      load.setPlace(once ? tile::Place::Global : streamed ? tile::Place::Stream : tile::Place::Shared);
      if (!once && streamed) load.setStages(stages);
    });
  }
};

}  // namespace
}  // namespace weft
