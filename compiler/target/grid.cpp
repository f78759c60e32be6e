#include "compiler/target/grid.h"

#include <algorithm>

#include "compiler/target/kept_tiles.h"

namespace weft::target {
namespace {

weft::Grid gridOf(tile::Grid grid) {
  switch (grid) {
    case tile::Grid::Query: return Grid::QueryTile;  // or PositionTile
    case tile::Grid::Key: return Grid::KeyTile;
    case tile::Grid::HeadKey: return Grid::HeadKeyTile;
    case tile::Grid::Group: return Grid::Group;
    case tile::Grid::Head: return Grid::Head;
  }
  return Grid::Head;
}

}  // namespace

ProgramGrid::ProgramGrid(Emitter &emit, KernelArguments &slots, tile::KernelOp kernel)
    : emit(emit),
      slots(slots),
      kernel(kernel),
      tiles(kernel.getGrid() != tile::Grid::Group && kernel.getGrid() != tile::Grid::Head),
      queryTiles(kernel.getGrid() == tile::Grid::Query),
      headsInner(tiles && kernel.getOrder() == tile::Order::Heads) {
  const bool groups = kernel.getGrid() == tile::Grid::Key || kernel.getGrid() == tile::Grid::Group;
  heads = groups ? slots.dim("G") : queryTiles ? slots.heads() : slots.dim("H");
  rows = emit.mul(queryTiles ? slots.batches() : slots.dim("B"), heads);
  count = !tiles       ? emit.i64(1)
          : queryTiles ? tileCount(emit, slots.rows(), kernel.getTileQ())
                       : tileCount(emit, slots, kernel.getKeyDim().str(), kernel.getTileK());
}

Value ProgramGrid::programs() { return tiles ? emit.mul(rows, count) : rows; }

void ProgramGrid::bind(Value p, llvm::DenseMap<Value, Value> &scalars) {
  Value outer = headsInner ? emit.div(p, rows) : tiles ? emit.div(p, count) : p;
  Value inner = emit.sub(p, emit.mul(outer, headsInner ? rows : count));
  Value row = headsInner ? inner : outer, tile = headsInner ? outer : inner;
  if (queryTiles) tile = emit.sub(emit.sub(count, emit.i64(1)), tile);
  Value batch = emit.div(row, heads);
  mlir::Block &body = kernel.getBody().front();
  scalars[body.getArgument(0)] = batch;
  scalars[body.getArgument(1)] = emit.sub(row, emit.mul(batch, heads));
  if (tiles) scalars[body.getArgument(2)] = tile;
}

KernelImage ProgramGrid::image(llvm::StringRef entry) {
  KernelImage image;
  image.entry = entry.str();
  image.slots = slots.list;
  image.grid = queryTiles && slots.headRows() ? Grid::PositionTile : gridOf(kernel.getGrid());
  image.keyDim = kernel.getKeyDim().str();
  image.tileQ = static_cast<int>(kernel.getTileQ());
  image.tileK = static_cast<int>(kernel.getTileK());
  return image;
}

std::string entryName(tile::KernelOp kernel) {
  std::string name = kernel.getSymName().str();
  std::replace(name.begin(), name.end(), '.', '_');
  return "weft_" + name;
}

}  // namespace weft::target
