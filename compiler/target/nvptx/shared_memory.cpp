#include "compiler/target/nvptx/shared_memory.h"

#include <algorithm>

#include "compiler/target/tensors.h"

#include "llvm/ADT/DenseSet.h"

namespace weft::nvptx {
namespace {

class Room {
 public:
  explicit Room(ElementType type) : type(type) {}

  int64_t most = 0;

  void enter(mlir::Block &block) {
    for (mlir::Operation &op : block) {
      if (auto load = mlir::dyn_cast<tile::LoadOp>(op)) {
        if (load.getPlace() == tile::Place::Shared) take(load.getResult());
      } else if (auto loop = mlir::dyn_cast<tile::ForOp>(op)) {
        const int64_t before = used;
        if (loop.overKept())
          for (auto load : loop.getBody().front().getOps<tile::LoadOp>())
            if (load.getPlace() == tile::Place::Stream) take(load.getResult(), static_cast<int64_t>(*load.getStages()));
        enter(loop.getBody().front());
        if (loop.overKept()) used = before;
      } else if (auto dot = mlir::dyn_cast<tile::DotOp>(op)) {
        if (dot.getForm() == tile::DotForm::TN) take(dot.getLhs());
      } else if (auto into = mlir::dyn_cast<tile::DotIntoOp>(op)) {
        take(into.getLhs());
      }
    }
  }

 private:
  ElementType type;
  int64_t used = 0;
  llvm::DenseSet<mlir::Value> taken;

  void take(mlir::Value tile, int64_t copies = 1) {
    if (!taken.insert(tile).second) return;
    const auto shape = mlir::cast<mlir::RankedTensorType>(tile.getType()).getShape();
    used += copies * shape[0] * sharedPitch(shape[1], type);
    most = std::max(most, used);
  }
};

}  // namespace

int64_t sharedPitch(int64_t columns, ElementType type) {
  const int64_t padded = (columns + 15) / 16 * 16, bytes = type == ElementType::F32 ? 4 : 2;
  return (padded * bytes / 16 | 1) * 16;
}

int64_t sharedBytesOf(tile::KernelOp kernel) {
  Room room(target::rowType(kernel));
  room.enter(kernel.getBody().front());
  return room.most;
}

}  // namespace weft::nvptx
