#include "compiler/transforms/place_operands.h"

#include "llvm/ADT/STLExtras.h"

namespace weft {

void placeOperands(mlir::ModuleOp module, int stages) {
  mlir::Builder builder(module.getContext());
  module.walk([&](tile::LoadOp load) {
    const bool once = llvm::all_of(load.getResult().getUsers(),
                                   [](mlir::Operation *user) { return mlir::isa<tile::RowDotOp>(user); });
    auto loop = mlir::dyn_cast<tile::ForOp>(load->getParentOp());
    const bool kept = loop && loop.overKept();
    const bool streamed = kept && load.getIndex() == loop.getBody().front().getArgument(0);
    load.setPlace(once ? "global" : streamed ? "stream" : "shared");
    if (!once && streamed) load.setStages(stages);
  });
}

}  // namespace weft
