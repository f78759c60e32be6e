// Gives each tile its place in the thread's scratch memory.
//
// Before: tiles with a layout. After: operations that make tiles say where they lie (`cpu.places`), and the kernel how
// much scratch a thread takes (`cpu.scratch_bytes`). Tiles whose lives do not meet may lie in the same place; one that
// is consumed, or read by a tile.pairwise alone, gives its place to the result. What a loop carries lives as long as
// the loop. Test: assign_scratch.mlir
#include "compiler/dialect/cpu.h"
#include "compiler/passes.h"
#include "compiler/target/cpu/object_code.h"
#include "compiler/target/lives.h"
#include "llvm/ADT/EquivalenceClasses.h"
#include "llvm/ADT/MapVector.h"

namespace weft {

#define GEN_PASS_DEF_ASSIGNSCRATCH
#include "compiler/Passes.h.inc"

namespace {

using mlir::Value;

/// Registers and lines of the cache are as long.
constexpr int64_t alignment = 64;
/// Of what describes AMX's registers: it lies at the start of the scratch and is read before any tile is made.
constexpr int64_t amxDescription = 64;

int64_t roundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

bool isTile(Value value) { return mlir::isa<mlir::RankedTensorType>(value.getType()); }
/// Whether an operation makes tiles in scratch memory.
bool makesTiles(mlir::Operation *op) {
  return !mlir::isa<cpu::ViewOp, tile::ForOp>(op) && llvm::any_of(op->getResults(), isTile);
}

class Scratch {
 public:
  Scratch(tile::KernelOp kernel, int lanes) : kernel(kernel), order(kernel), lanes(lanes) {}

  void run() {
    kernel.walk<mlir::WalkOrder::PreOrder>([&](mlir::Operation *op) { shareMemory(op); });
    kernel.walk<mlir::WalkOrder::PreOrder>([&](mlir::Operation *op) {
      if (makesTiles(op))
        for (Value result : op->getResults()) addToLife(result, op);
      if (auto loop = mlir::dyn_cast<tile::ForOp>(op)) {
        for (Value argument : loop.getRegionIterArgs()) addToLife(argument, op);
        for (Value result : loop.getResults()) addToLife(result, op);
      }
    });
    int64_t bytes = place();
    kernel.walk([&](mlir::Operation *op) {
      if (makesTiles(op)) setPlaces(op);
    });
    if (cpu::usesAmx(kernel)) bytes = std::max(bytes, amxDescription);
    kernel->setAttr(cpu::scratchBytes, mlir::Builder(kernel.getContext()).getI64IntegerAttr(bytes));
  }

 private:
  tile::KernelOp kernel;
  const target::TextOrder order;
  const int lanes;
  llvm::EquivalenceClasses<void *> memories;     ///< values that lie in the same place
  llvm::MapVector<void *, target::Life> lives;   ///< of each, by its leader, in the order of the text
  llvm::DenseMap<void *, mlir::Block *> blocks;  ///< where it is made

  void *memoryOf(Value value) { return memories.getOrInsertLeaderValue(value.getAsOpaquePointer()); }
  void share(Value x, Value y) { memories.unionSets(x.getAsOpaquePointer(), y.getAsOpaquePointer()); }

  void shareMemory(mlir::Operation *op) {
    if (auto loop = mlir::dyn_cast<tile::ForOp>(op)) {
      for (auto [init, argument, result] : llvm::zip(loop.getInits(), loop.getRegionIterArgs(), loop.getResults())) {
        share(init, argument);
        share(init, result);
      }
    } else if (auto product = mlir::dyn_cast<cpu::ProductOp>(op)) {
      if (product.getAcc()) share(product.getAcc(), product.getResult());
    } else if (mlir::isa<tile::ScaleOp, tile::ScaleRowsOp>(op)) {
      share(op->getOperand(0), op->getResult(0));
    } else if (auto pairwise = mlir::dyn_cast<tile::PairwiseOp>(op)) {
      size_t next = 0;
      for (Value tile : pairwise.getTiles())
        if (tile.hasOneUse() && tile.getParentBlock() == op->getBlock() && next < pairwise.tileResults())
          share(tile, pairwise.getResult(next++));
    }
  }

  /// A memory lives from where its first value is made to the last use of any; one inside of a loop beside it is one of
  /// all turns.
  void addToLife(Value value, mlir::Operation *made) {
    void *memory = memoryOf(value);
    if (!lives.contains(memory)) {
      blocks[memory] = made->getBlock();
      lives.insert({memory, {order.first(made), order.last(made), 0}});
    }
    target::Life &own = lives[memory];
    own.bytes = std::max(own.bytes, bytesOf(mlir::cast<mlir::RankedTensorType>(value.getType())));
    auto reach = [&](mlir::Operation *op) { own.end = std::max(own.end, order.lastBeside(blocks[memory], op)); };
    reach(made);
    reachUses(value, reach);
  }

  /// A pad of what needs none is its source itself.
  static void reachUses(Value value, llvm::function_ref<void(mlir::Operation *)> reach) {
    for (mlir::Operation *user : value.getUsers()) {
      reach(user);
      if (auto pad = mlir::dyn_cast<cpu::PadOp>(user)) reachUses(pad.getResult(), reach);
    }
  }

  /// Stores in columns are of whole registers.
  int64_t bytesOf(mlir::RankedTensorType type) const {
    int64_t elements = type.getNumElements();
    if (type.getRank() == 2 && dialect::isReal(type.getElementType()) && cpu::layoutOf(type) == cpu::Layout::Columns)
      elements = type.getDimSize(0) * roundUp(type.getDimSize(1), lanes);
    return roundUp(elements * type.getElementTypeBitWidth() / 8, alignment);
  }

  int64_t place() {
    llvm::SmallVector<target::Life> placed;
    for (auto &[memory, life] : lives) placed.push_back(life);
    const int64_t bytes = target::place(placed);
    for (auto [own, life] : llvm::zip(lives, placed)) own.second.offset = life.offset;
    return bytes;
  }

  void setPlaces(mlir::Operation *op) {
    llvm::SmallVector<int64_t> places;
    for (Value result : op->getResults()) places.push_back(lives[memoryOf(result)].offset);
    op->setAttr(cpu::places, mlir::DenseI64ArrayAttr::get(op->getContext(), places));
  }
};

struct AssignScratch : impl::AssignScratchBase<AssignScratch> {
  using AssignScratchBase::AssignScratchBase;
  void runOnOperation() override {
    const int lanes = cpu::machineOf(cpu, dialect::realType(&getContext()).getWidth()).lanes;
    getOperation().walk([&](tile::KernelOp kernel) { Scratch(kernel, lanes).run(); });
  }
};

}  // namespace
}  // namespace weft
