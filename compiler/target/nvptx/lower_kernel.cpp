// Tile kernels to the code of one thread of a CTA.
//
// Before: one tile.kernel without weft.map, its loads placed. After: llvm.func @<kernel>(slots), an nvvm kernel of scf,
// arith, math and llvm operations: operands in shared memory, fragments of tiles in registers. A program is a CTA; in
// planning kernels a program is a thread.
#include <limits>
#include <numeric>

#include "compiler/compiler.h"
#include "compiler/passes.h"
#include "compiler/target/grid.h"
#include "compiler/target/image.h"
#include "compiler/target/kept_tiles.h"
#include "compiler/target/nvptx/warp.h"
#include "compiler/target/plan_region.h"
#include "compiler/target/scalar_region.h"
#include "compiler/transforms/signature.h"
#include "llvm/ADT/STLExtras.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

namespace weft::nvptx {
namespace {

namespace arith = mlir::arith;
namespace llvmir = mlir::LLVM;
using target::KeptTiles;
using target::PlanRegion;
using target::RegionContext;
using target::ScalarRegion;
using target::Slots;

constexpr unsigned globalSpace = 1, sharedSpace = 3;
constexpr int planThreads = 32;

/// Where a tile value is.
struct Fragment {
  enum class Kind {
    Shared,  ///< an operand, in shared memory
    Global,  ///< an operand read once, where the tensor is
    Tile,    ///< registers, see Warp
    Rows,    ///< registers: two floats a block of 16 rows
  };
  Kind kind = Kind::Rows;
  SharedTile shared;
  Value source, stride, valid;           ///< Global: row 0, elements from row to row, rows inside the tensor
  std::function<Value(Value)> offsetOf;  ///< Global: bytes from `source` to row r (i64); null: r strides
  std::vector<Value> values;
  int64_t rows = 0, columns = 0;
  int64_t tiles() const { return (columns + 15) / 16 * 2; }  ///< Tile: groups of 8 columns
};

int warpsOf(int64_t tileQ, int64_t tileK) {
  const int64_t most = std::gcd(tileQ, tileK) / 16;
  for (int warps : {4, 3, 2})
    if (most % warps == 0) return warps;
  return 1;
}

class KernelLowering {
 public:
  KernelLowering(mlir::ModuleOp module, tile::KernelOp kernel)
      : type(target::rowType(kernel)),
        builder(module.getContext()),
        emit(builder, {1, 255, false, globalSpace}),
        slots(emit, kernel),
        plan(emit, slots, scalars),
        warp(emit, type, warpsOf(kernel.getTileQ(), kernel.getTileK())),
        module(module),
        kernel(kernel),
        tileQ(kernel.getTileQ()),
        tileK(kernel.getTileK()) {}

  void run() {
    bool scalarProgram = false;
    // A warp for a program whose turns can be shared, else a thread.
    bool turnsShared = false, usesWorkspace = false;
    kernel.walk([&](mlir::Operation *op) {
      scalarProgram |= mlir::isa<tile::StoreFlatOp, tile::PoolRowsOp>(op);
      turnsShared |= op->hasAttr(tile::independentTurns) || mlir::isa<tile::PoolRowsOp>(op);
      usesWorkspace |= op->getAttrOfType<mlir::FlatSymbolRefAttr>("tensor") ==
                       mlir::FlatSymbolRefAttr::get(builder.getContext(), workspace);
    });
    builder.setInsertionPointToEnd(module.getBody());
    auto shared =
        llvmir::GlobalOp::create(builder, emit.loc, llvmir::LLVMArrayType::get(builder.getIntegerType(8), 0), false,
                                 llvmir::Linkage::External, "weft_shared", mlir::Attribute(), 16, sharedSpace);
    auto type = llvmir::LLVMFunctionType::get(llvmir::LLVMVoidType::get(builder.getContext()),
                                              {llvmir::LLVMPointerType::get(builder.getContext())});
    auto function = llvmir::LLVMFuncOp::create(builder, emit.loc, target::entryName(kernel), type);
    mlir::Block *entry = function.addEntryBlock(builder);
    builder.setInsertionPointToStart(entry);
    llvmir::ReturnOp::create(builder, emit.loc, mlir::ValueRange());
    slots.setEntry(entry, entry->getArgument(0));
    builder.setInsertionPoint(entry->getTerminator());
    warp.begin(llvmir::AddressOfOp::create(
        builder, emit.loc, llvmir::LLVMPointerType::get(builder.getContext(), sharedSpace), shared.getSymName()));

    target::ProgramGrid grid(emit, slots, kernel);
    Value block = emit.toI64(warp.call("llvm.nvvm.read.ptx.sreg.ctaid.x", builder.getI32Type(), {}));
    auto program = [&](Value p) {
      grid.bind(p, scalars);
      if (usesWorkspace) plan.workspace = emit.at(slots.pointer(workspace), emit.mul(p, slots.dim(workspaceRow)));
      for (mlir::Operation &op : kernel.getBody().front()) emitOp(op);
    };
    const int threads = scalarProgram ? planThreads : warp.threads();
    if (turnsShared) {
      plan.lanes = warp.lanes();
      program(block);
    } else if (scalarProgram) {
      Value p = emit.add(emit.mul(block, emit.i64(planThreads)), emit.toI64(warp.thread));
      emit.when(emit.less(p, grid.programs()), [&] { program(p); });
    } else {
      program(block);
    }

    const auto slotBytes = llvmir::LLVMArrayType::get(builder.getI64Type(), std::max<size_t>(slots.list.size(), 1));
    function.setArgAttr(0, llvmir::LLVMDialect::getByValAttrName(), mlir::TypeAttr::get(slotBytes));
    function.setArgAttr(0, llvmir::LLVMDialect::getAlignAttrName(), builder.getI64IntegerAttr(8));
    function->setAttr(mlir::NVVM::NVVMDialect::getKernelFuncAttrName(), builder.getUnitAttr());
    function->setAttr(mlir::NVVM::NVVMDialect::getReqntidAttrName(), builder.getDenseI32ArrayAttr({threads}));
    // One block an SM is enough: else ptxas spills to fit more.
    function->setAttr(mlir::NVVM::NVVMDialect::getMinctasmAttrName(), builder.getI32IntegerAttr(1));

    KernelImage image = grid.image(function.getSymName());
    image.threads = threads;
    image.programsPerBlock = scalarProgram && !turnsShared ? planThreads : 1;
    image.sharedBytes = warp.sharedBytes();
    target::describeImage(function, image);
  }

 private:
  const ElementType type;  ///< of rows
  mlir::OpBuilder builder;
  Emitter emit;
  Slots slots;
  llvm::DenseMap<Value, Value> scalars;
  PlanRegion plan;
  Warp warp;
  mlir::ModuleOp module;
  tile::KernelOp kernel;
  int64_t tileQ, tileK;
  llvm::DenseMap<Value, Fragment> fragments;

  Value tileCount(const std::string &dim, int64_t tile) { return target::tileCount(emit, slots, dim, tile); }
  Value scalar(Value value) {
    auto found = scalars.find(value);
    internalCheck(found != scalars.end(), "nvptx lowering", "scalar without a value");
    return found->second;
  }
  Fragment &fragment(Value value) {
    auto found = fragments.find(value);
    internalCheck(found != fragments.end(), "nvptx lowering", "tile without a fragment");
    return found->second;
  }
  static llvm::ArrayRef<int64_t> shapeOf(Value value) {
    return mlir::cast<mlir::RankedTensorType>(value.getType()).getShape();
  }
  Value select(Value condition, Value yes, Value no) {
    return arith::SelectOp::create(builder, emit.loc, condition, yes, no);
  }
  Value both(Value x, Value y) { return arith::AndIOp::create(builder, emit.loc, x, y); }
  /// A coordinate is inside its dim; both fit in 32 bits.
  Value below(Value coordinate, const std::string &dim) {
    return emit.less(emit.toI32(coordinate), emit.toI32(slots.dim(dim)));
  }
  Value isFirstOfRow() {
    return arith::CmpIOp::create(builder, emit.loc, arith::CmpIPredicate::eq, warp.quad, emit.i32(0));
  }

  void emitOp(mlir::Operation &op) {
    emit.loc = op.getLoc();
    if (auto load = mlir::dyn_cast<tile::LoadOp>(op)) return emitLoad(load);
    if (auto load = mlir::dyn_cast<tile::LoadRowsOp>(op)) return emitLoadRows(load);
    if (auto fill = mlir::dyn_cast<tile::FillOp>(op)) return emitFill(fill);
    if (auto loop = mlir::dyn_cast<tile::ForOp>(op)) return emitFor(loop);
    if (auto dot = mlir::dyn_cast<tile::DotOp>(op)) return emitDot(dot);
    if (auto into = mlir::dyn_cast<tile::DotIntoOp>(op)) return emitDotInto(into);
    if (auto scale = mlir::dyn_cast<tile::ScaleRowsOp>(op)) return emitScale(scale);
    if (auto pairwise = mlir::dyn_cast<tile::PairwiseOp>(op)) return emitPairwise(pairwise);
    if (auto scan = mlir::dyn_cast<tile::ScanSumOp>(op)) return emitScanSum(scan);
    if (auto rowwise = mlir::dyn_cast<tile::RowwiseOp>(op)) return emitRowwise(rowwise);
    if (auto rowDot = mlir::dyn_cast<tile::RowDotOp>(op)) return emitRowDot(rowDot);
    if (auto store = mlir::dyn_cast<tile::StoreOp>(op)) return emitStore(store);
    if (auto store = mlir::dyn_cast<tile::StoreRowsOp>(op)) return emitStoreRows(store);
    if (mlir::isa<tile::YieldOp, tile::TensorOp>(op)) return;  // the loop yields
    plan.emitOp(op);
  }

  // ---- loads -------------------------------------------------------------------------------

  /// slots.keyAt, also past the end of the list.
  std::pair<Value, Value> keyAt(Value n) {
    return slots.keyAt(emit.min(n, emit.sub(slots.dim(slots.listDim), emit.i64(1))));
  }

  /// Where the rows of a load begin: source, stride, valid rows.
  Fragment located(tile::LoadOp op) {
    const std::string name = op.getTensor().str();
    Fragment result;
    result.kind = Fragment::Kind::Global;
    result.rows = shapeOf(op.getResult())[0];
    result.columns = shapeOf(op.getResult())[1];
    Value first = emit.mul(scalar(op.getIndex()), emit.i64(result.rows));
    const std::string &dim = slots.info(name).dims[2];
    const bool listed = slots.listed(dim);
    result.valid = emit.min(emit.sub(slots.dim(slots.keyExtent(dim)), first), emit.i64(result.rows));
    Value batch = scalar(op.getBatch()), head = slots.headOf(name, scalar(op.getHead()));
    const bool anywhere = listed && slots.inPages(name);
    result.source = anywhere ? slots.pointer(name) : slots.row(name, batch, head, listed ? emit.i64(0) : first);
    Value bytes = emit.i64(weft::bytesOf(type)), rowBytes = emit.mul(slots.stride(name, 2), bytes);
    if (listed)
      result.offsetOf = [=, this](Value row) {
        Value key = keyAt(emit.add(first, row)).first;
        return anywhere ? emit.mul(slots.rowOffset(name, batch, head, key), bytes) : emit.mul(key, rowBytes);
      };
    result.stride = slots.stride(name, 2);
    return result;
  }

  void emitLoad(tile::LoadOp op) {
    if (fragments.count(op.getResult())) return;  // streamed by the loop around
    Fragment result = located(op);
    if (op.getPlace() != tile::Place::Global) {
      result.kind = Fragment::Kind::Shared;
      result.shared = warp.sharedTile(result.rows, result.columns);
      warp.barrier();  // the turn before may still read
      warp.copyAsync(result.shared, result.source, result.stride, result.valid, result.offsetOf);
      warp.commit();
      warp.waitFor(0);
      warp.barrier();
    }
    fragments[op.getResult()] = result;
  }

  /// body(block, half, row): once for each row a thread holds.
  template <class Body>
  void eachRow(int64_t rows, Body body) {
    for (int64_t block = 0; block < warp.blocks(rows); ++block)
      for (int half = 0; half < 2; ++half) body(block, half, warp.row(block, half));
  }

  void emitLoadRows(tile::LoadRowsOp op) {
    Fragment result = rowFragment();
    Value first = emit.mul(scalar(op.getIndex()), emit.i64(tileQ));
    Value source = slots.row(op.getTensor().str(), scalar(op.getBatch()), scalar(op.getHead()), first);
    Value valid = emit.sub(slots.dim("T"), first);
    Value fill = emit.constantF(op.getFill().convertToFloat());
    eachRow(tileQ, [&](int64_t, int, Value row) {
      Value inside = emit.less(row, valid);
      Value value = emit.load(builder.getF32Type(), emit.at(source, select(inside, row, emit.i64(0))));
      result.values.push_back(select(inside, value, fill));
    });
    fragments[op.getResult()] = result;
  }

  Fragment rowFragment() {
    Fragment result;
    result.kind = Fragment::Kind::Rows;
    result.rows = tileQ;
    result.columns = 1;
    return result;
  }
  Fragment tileFragment(int64_t rows, int64_t columns) {
    Fragment result;
    result.kind = Fragment::Kind::Tile;
    result.rows = rows;
    result.columns = columns;
    return result;
  }
  int64_t size(const Fragment &own) {
    return warp.blocks(own.rows) * (own.kind == Fragment::Kind::Rows ? 2 : own.tiles() * 4);
  }

  void emitFill(tile::FillOp op) {
    auto shape = shapeOf(op.getResult());
    Fragment result = shape.size() == 1 ? rowFragment() : tileFragment(shape[0], shape[1]);
    auto attr = op.getValue().getDefiningOp<arith::ConstantOp>();
    internalCheck(attr != nullptr, "nvptx lowering", "fill with a value that is no constant");
    Value value = emit.constantF(mlir::cast<mlir::FloatAttr>(attr.getValue()).getValue().convertToFloat());
    result.values.assign(size(result), value);
    fragments[op.getResult()] = result;
  }

  // ---- loops -------------------------------------------------------------------------------

  void emitFor(tile::ForOp op) {
    const tile::Range over = op.getOver();
    auto prepare = [&](Value at) { scalars[op.getBody().front().getArgument(0)] = at; };
    if (over == tile::Range::Turns) return carry(op, 1, emit.i64(0), emit.i64(op.turns()), prepare);
    Value batch = scalar(op.getBatch()), head = scalar(op.getHead()), start = scalar(op.getStart());
    if (op.overKeys()) slots.enterRow(batch, head, emit.mul(start, emit.i64(tileQ)));
    if (op.overKept()) {
      KeptTiles tiles = keptTiles(emit, slots, {tileQ, tileK}, op, batch, head, start);
      return emitKeptLoop(op, tiles);
    }
    Value from = emit.i64(0), to;
    if (over == tile::Range::Heads) {
      Value perGroup = emit.div(slots.dim("H"), slots.dim("G"));
      from = emit.mul(start, perGroup);
      to = emit.add(from, perGroup);
    } else {
      to = tileCount("T", tileQ);
    }
    carry(op, 1, from, to, prepare);
  }

  /// The loop itself: carried fragments travel as values; prepare(index) runs at the start of a turn.
  template <class Prepare>
  void carry(tile::ForOp op, unsigned leading, Value from, Value to, Prepare prepare) {
    mlir::Block &body = op.getBody().front();
    auto arguments = body.getArguments().drop_front(leading);
    std::vector<Value> inits;
    for (Value init : op.getInits()) llvm::append_range(inits, fragment(init).values);
    auto spread = [&](mlir::ValueRange targets, mlir::ValueRange values) {
      size_t at = 0;
      for (auto [init, target] : llvm::zip(op.getInits(), targets)) {
        Fragment own = fragment(init);
        for (Value &value : own.values) value = values[at++];
        fragments[target] = own;
      }
    };
    auto sums = emit.loop(from, to, 1, inits, [&](Value at, mlir::ValueRange carried) {
      prepare(at);
      std::vector<Value> targets(arguments.begin(), arguments.end());
      spread(targets, carried);
      for (mlir::Operation &inner : body) emitOp(inner);
      std::vector<Value> next;
      for (Value value : body.getTerminator()->getOperands()) llvm::append_range(next, fragment(value).values);
      return next;
    });
    spread(op.getResults(), sums);
  }

  /// Streamed operands are copied `stages - 1` turns ahead of their use.
  void emitKeptLoop(tile::ForOp op, const KeptTiles &tiles) {
    mlir::Block &body = op.getBody().front();
    std::vector<tile::LoadOp> streamed;
    for (auto load : body.getOps<tile::LoadOp>())
      if (load.getPlace() == tile::Place::Stream) streamed.push_back(load);
    const int stages = streamed.empty() ? 1 : static_cast<int>(*streamed[0].getStages());
    std::vector<SharedTile> places;
    const int64_t mark = warp.mark();
    for (tile::LoadOp load : streamed) {
      auto shape = shapeOf(load.getResult());
      places.push_back(warp.sharedTile(shape[0], shape[1]));
      for (int stage = 1; stage < stages; ++stage) warp.sharedTile(shape[0], shape[1]);
    }
    auto placeOf = [&](size_t which, Value stage) {
      return warp.at(places[which], emit.mul(stage, emit.i32(warp.bytesOf(places[which]))));
    };
    auto stageOf = [&](Value turn) {
      Value number = emit.sub(turn, tiles.from);
      return emit.toI32(arith::RemUIOp::create(builder, emit.loc, number, emit.i64(stages)));
    };
    auto copy = [&](Value turn) {
      emit.when(emit.less(turn, tiles.to), [&] {
        scalars[body.getArgument(0)] = tiles.tile(turn).first;
        Value stage = stageOf(turn);
        for (auto [which, load] : llvm::enumerate(streamed)) {
          Fragment from = located(load);
          warp.copyAsync(placeOf(which, stage), from.source, from.stride, from.valid, from.offsetOf);
        }
      });
      warp.commit();
    };
    warp.barrier();  // the loop before may still read
    for (int ahead = 0; ahead + 1 < stages; ++ahead) copy(emit.add(tiles.from, emit.i64(ahead)));
    carry(op, 2, tiles.from, tiles.to, [&](Value turn) {
      if (stages == 1) {
        warp.barrier();
        copy(turn);
        warp.waitFor(0);
        warp.barrier();
      } else {
        warp.waitFor(stages - 2);
        warp.barrier();
        copy(emit.add(turn, emit.i64(stages - 1)));
      }
      auto [index, full] = tiles.tile(turn);
      scalars[body.getArgument(0)] = index;
      scalars[body.getArgument(1)] = full;
      Value stage = stageOf(turn);
      for (auto [which, load] : llvm::enumerate(streamed)) {
        Fragment &own = fragments[load.getResult()];
        own = tileFragment(shapeOf(load.getResult())[0], shapeOf(load.getResult())[1]);
        own.kind = Fragment::Kind::Shared;
        own.shared = placeOf(which, stage);
      }
    });
    for (tile::LoadOp load : streamed) fragments.erase(load.getResult());
    warp.release(mark);
  }

  // ---- products ----------------------------------------------------------------------------

  Fragment zeroTile(int64_t rows, int64_t columns) {
    Fragment result = tileFragment(rows, columns);
    result.values.assign(size(result), emit.constantF(0));
    return result;
  }

  void emitDot(tile::DotOp op) {
    const tile::DotForm form = op.getForm();
    Fragment &lhs = fragment(op.getLhs()), &rhs = fragment(op.getRhs());
    Fragment result;
    if (form == tile::DotForm::NT) {
      result = zeroTile(lhs.rows, rhs.rows);
      warp.multiplyNT(result.values, lhs.shared, rhs.shared);
    } else {
      result = fragment(op.getAcc());
      if (form == tile::DotForm::NN) warp.multiplyNN(result.values, lhs.values, lhs.columns, rhs.shared);
      else warp.multiplyTN(result.values, inShared(op.getLhs()), rhs.shared);
    }
    fragments[op.getResult()] = result;
  }

  /// A fragment written to shared memory, where all warps can read it.
  SharedTile inShared(Value value) {
    Fragment own = fragment(value);
    if (own.shared.base) return own.shared;
    SharedTile place = warp.sharedTile(own.rows, own.columns);
    warp.barrier();
    warp.store(place, own.values);
    warp.barrier();
    fragments[value].shared = place;
    return place;
  }

  void emitDotInto(tile::DotIntoOp op) {
    Fragment &rhs = fragment(op.getRhs());
    Fragment sums = zeroTile(tileK, rhs.columns);
    SharedTile rhsTile = rhs.shared;
    warp.multiplyTN(sums.values, inShared(op.getLhs()), rhsTile);
    const std::string name = op.getTensor().str();
    const std::string &dim = slots.info(name).dims[2];
    const bool listed = slots.listed(dim);
    Value first = emit.mul(scalar(op.getIndex()), emit.i64(tileK));
    Value out =
        slots.row(name, scalar(op.getBatch()), slots.headOf(name, scalar(op.getHead())), listed ? emit.i64(0) : first);
    std::function<std::pair<Value, Value>(Value)> place;
    if (listed) place = [this, first](Value row) { return keyAt(emit.add(first, row)); };
    eachElement(
        sums, emit.sub(slots.dim(slots.keyExtent(dim)), first), out, slots.stride(name, 2), builder.getF32Type(),
        [&](Value pointer, Value value) {
          // A list may name a key twice.
          if (listed) return atomicAdd(pointer, value);
          Value old = emit.load(builder.getF32Type(), pointer);
          emit.store(arith::AddFOp::create(builder, emit.loc, old, value), pointer);
        },
        place);
  }

  /// body(pointer, value) for each element of a tile that is inside a tensor of `element`s.
  template <class Body>
  void eachElement(const Fragment &own, Value valid, Value out, Value stride, mlir::Type element, Body body,
                   const std::function<std::pair<Value, Value>(Value row)> &place = nullptr) {
    eachRow(own.rows, [&](int64_t block, int half, Value row) {
      auto [at, exists] = place ? place(row) : std::pair{row, Value()};
      Value inside = emit.less(row, valid);
      emit.when(exists ? both(inside, exists) : inside, [&, at = at] {
        Value start = emit.at(out, emit.mul(at, stride), element);
        for (int64_t n = 0; n < own.tiles(); ++n)
          for (int e = 0; e < 2; ++e) {
            if (8 * n + e >= own.columns) continue;
            Value value = own.values[(block * own.tiles() + n) * 4 + 2 * half + e];
            Value column = warp.column(n, e);
            auto store = [&] { body(emit.at(start, column, element), value); };
            if (8 * n + 8 <= own.columns) store();
            else emit.when(emit.less(column, emit.i64(own.columns)), store);
          }
      });
    });
  }

  void emitScale(tile::ScaleRowsOp op) {
    Fragment result = fragment(op.getTile());
    const Fragment &factors = fragment(op.getFactors());
    for (size_t at = 0; at < result.values.size(); ++at) {
      const size_t block = at / (result.tiles() * 4), half = at % 4 / 2;
      result.values[at] = arith::MulFOp::create(builder, emit.loc, result.values[at], factors.values[2 * block + half]);
    }
    fragments[op.getResult()] = result;
  }

  // ---- scalar programs ---------------------------------------------------------------------

  void emitScanSum(tile::ScanSumOp op) {
    const Fragment own = fragment(op.getTile());
    Fragment sums = tileFragment(tileQ, tileK), totals = rowFragment();
    sums.values.resize(size(sums));
    totals.values.resize(size(totals));
    auto plus = [&](Value x, Value y) { return Value(arith::AddFOp::create(builder, emit.loc, x, y)); };
    // The other thread's columns lie after this one's: in a pair where this thread is even, in a half where it is one
    // of the first two. Never two tests of bits of one register: see Expander::sine.
    const bool after = op.getSide() == tile::ScanSide::After;
    Value zero = emit.constantF(0), odd = arith::AndIOp::create(builder, emit.loc, warp.quad, emit.i32(1));
    Value nearAfter = arith::CmpIOp::create(builder, emit.loc, arith::CmpIPredicate::eq, odd, emit.i32(0));
    Value farAfter = warp.withOwnCoordinates([&] { return emit.less(warp.quad, emit.i32(2)); });
    auto counted = [&](Value later, Value value) {
      return after ? select(later, value, zero) : select(later, zero, value);
    };
    const int64_t wide = tileK / 8, own1 = after ? 1 : 0;
    for (int64_t block = 0; block < warp.blocks(tileQ); ++block)
      for (int half = 0; half < 2; ++half) {
        Value carried = zero;
        for (int64_t turn = 0; turn < wide; ++turn) {
          // Four threads hold two columns each: those of the threads beyond this one, then its own farther one.
          const int64_t at = (block * wide + (after ? wide - 1 - turn : turn)) * 4 + 2 * half;
          Value pair = plus(own.values[at], own.values[at + 1]);
          Value near = warp.exchange(pair, 1), far = plus(warp.exchange(pair, 2), warp.exchange(near, 2));
          sums.values[at + own1] = plus(carried, plus(counted(nearAfter, near), counted(farAfter, far)));
          sums.values[at + 1 - own1] = plus(sums.values[at + own1], own.values[at + own1]);
          carried = plus(carried, plus(plus(pair, near), far));
        }
        totals.values[block * 2 + half] = carried;
      }
    fragments[op.getSums()] = sums;
    fragments[op.getTotals()] = totals;
  }

  void emitPairwise(tile::PairwiseOp op) {
    for (auto [at, result] : llvm::enumerate(op.getResults()))
      fragments[result] = at < op.tileResults() ? tileFragment(tileQ, tileK) : rowFragment();
    bool masks = false;
    op.getBody().walk(
        [&](mlir::Operation *inner) { masks |= mlir::isa<dialect::MaskOp, dialect::AccumulateOp>(inner); });
    std::vector<Value> values;
    if (!masks) {
      values = warp.withOwnCoordinates([&] { return pairwisePass(op, true); });
    } else {
      std::vector<mlir::Type> types;
      for (Value result : op.getResults()) types.resize(types.size() + size(fragment(result)), builder.getF32Type());
      auto branch = mlir::scf::IfOp::create(builder, emit.loc, types, scalar(op.getFull()), true);
      mlir::OpBuilder::InsertionGuard guard(builder);
      for (bool full : {true, false}) {
        builder.setInsertionPointToStart(full ? branch.thenBlock() : branch.elseBlock());
        mlir::scf::YieldOp::create(builder, emit.loc, warp.withOwnCoordinates([&] { return pairwisePass(op, full); }));
      }
      values.assign(branch.getResults().begin(), branch.getResults().end());
    }
    size_t at = 0;
    for (Value result : op.getResults()) {
      Fragment &own = fragment(result);
      own.values.assign(values.begin() + at, values.begin() + at + size(own));
      at += size(own);
    }
  }

  /// The values of all results, one after another.
  std::vector<Value> pairwisePass(tile::PairwiseOp op, bool full) {
    mlir::Block &body = op.getBody().front();
    auto results = mlir::cast<tile::ResultOp>(body.getTerminator()).getValues();
    const size_t tiles = op.tileResults(), reductions = op.getReductions().size();
    const int64_t blocks = warp.blocks(tileQ), wide = tileK / 8;
    std::vector<dialect::AccumulateOp> sums;
    body.walk([&](dialect::AccumulateOp sum) { sums.push_back(sum); });
    std::vector<std::vector<Value>> out(results.size());
    std::vector<std::vector<Value>> rowSums(sums.size(), std::vector<Value>(blocks * 2));
    std::vector<std::vector<Value>> columnSums(sums.size(), std::vector<Value>(wide * 2));
    for (size_t at = 0; at < results.size(); ++at) out[at].resize(at < tiles ? blocks * wide * 4 : blocks * 2);
    Value firstQuery = emit.mul(scalar(op.getQuery()), emit.i64(tileQ));
    Value firstKey = emit.mul(scalar(op.getKey()), emit.i64(tileK));
    const std::string keyDim = op.getKeyDim().str();
    RegionContext context{scalar(op.getBatch()), scalar(op.getHead()), Value(), Value(), Value(), full, full, keyDim};
    auto addTo = [&](Value &sum, Value value) {
      sum = sum ? Value(arith::AddFOp::create(builder, emit.loc, sum, value)) : value;
    };
    for (int64_t block = 0; block < blocks; ++block)
      for (int64_t n = 0; n < wide; ++n)
        for (int e = 0; e < 4; ++e) {
          const int64_t element = (block * wide + n) * 4 + e, row = block * 2 + e / 2;
          context.i = emit.add(firstQuery, warp.row(block, e / 2));
          Value key = emit.add(firstKey, warp.column(n, e)), exists;
          context.j = key;
          if (slots.listed(keyDim)) std::tie(context.j, exists) = keyAt(key);
          if (!full) context.inBounds = both(below(context.i, "T"), below(key, slots.keyExtent(keyDim)));
          if (!full && exists) context.inBounds = both(context.inBounds, exists);
          ScalarRegion region(emit, slots, context);
          region.onOuter = [&](Value value) { return plan.plain(value); };
          unsigned argument = 0;
          region.bindCoordinate(body.getArgument(argument++), ScalarRegion::Coordinate::I);
          region.bindCoordinate(body.getArgument(argument++), ScalarRegion::Coordinate::J);
          region.bindCoordinate(op.getBatch(), ScalarRegion::Coordinate::B);
          region.bindCoordinate(op.getHead(), ScalarRegion::Coordinate::H);
          for (Value tile : op.getTiles()) region.bind(body.getArgument(argument++), fragment(tile).values[element]);
          for (Value own : op.getRows()) region.bind(body.getArgument(argument++), fragment(own).values[row]);
          region.onAccumulate = [&](dialect::AccumulateOp sum, Value value) {
            const size_t which = llvm::find(sums, sum) - sums.begin();
            if (sum.getPer() == "head" || sum.getPer() == "query") addTo(rowSums[which][row], value);
            else if (sum.getPer() == "key") addTo(columnSums[which][n * 2 + e % 2], value);
            else scatter(region, sum, value, context);
          };
          region.emitBlock(body);
          for (size_t at = 0; at < results.size(); ++at) {
            Value value = region.result(results[at]);
            if (at < tiles) {
              out[at][element] = value;
              continue;
            }
            Value &slot = out[at][row];
            if (!slot) slot = value;
            else if (isMax(op, at - tiles)) slot = arith::MaxNumFOp::create(builder, emit.loc, slot, value);
            else addTo(slot, value);
          }
        }
    for (size_t at = 0; at < reductions; ++at)
      for (Value &value : out[tiles + at]) value = warp.reduceRow(value, isMax(op, at));
    for (auto [which, sum] : llvm::enumerate(sums)) {
      if (sum.getPer() == "head" || sum.getPer() == "query")
        eachRow(tileQ, [&](int64_t block, int half, Value row) {
          addToRow(sum, warp.reduceRow(rowSums[which][block * 2 + half], false), context, emit.add(firstQuery, row));
        });
      else if (sum.getPer() == "key")
        for (int64_t at = 0; at < wide * 2; ++at)
          addToColumn(sum, warp.addColumn(columnSums[which][at]), context,
                      emit.add(firstKey, warp.column(at / 2, static_cast<int>(at % 2))));
    }
    std::vector<Value> all;
    for (auto &values : out) llvm::append_range(all, values);
    return all;
  }

  static bool isMax(tile::PairwiseOp op, size_t reduction) { return op.reduction(reduction) == tile::Reduction::Max; }

  Value headRow(const RegionContext &context) {
    return emit.add(emit.mul(context.batch, slots.dim("H")), context.head);
  }

  /// partial[b, h, i] += value, by the one thread of the CTA that owns the row.
  void addToRow(dialect::AccumulateOp sum, Value value, const RegionContext &context, Value i) {
    emit.when(both(isFirstOfRow(), emit.less(i, slots.dim("T"))), [&] {
      Value index = emit.add(emit.mul(headRow(context), slots.dim("T")), i);
      Value pointer = emit.at(slots.pointer(sum.getInput().str()), index);
      Value old = emit.load(builder.getF32Type(), pointer);
      emit.store(arith::AddFOp::create(builder, emit.loc, old, value), pointer);
    });
  }
  void atomicAdd(Value pointer, Value value) {
    llvmir::AtomicRMWOp::create(builder, emit.loc, llvmir::AtomicBinOp::fadd, pointer, value,
                                llvmir::AtomicOrdering::monotonic, "device");
  }
  /// partial[b, h, j] += value; several warps meet there.
  void addToColumn(dialect::AccumulateOp sum, Value value, const RegionContext &context, Value j) {
    Value first = arith::CmpIOp::create(builder, emit.loc, arith::CmpIPredicate::eq, warp.group, emit.i32(0));
    emit.when(both(first, emit.less(j, slots.dim(context.keyDim))), [&] {
      Value index = emit.add(emit.mul(headRow(context), slots.dim(context.keyDim)), j);
      atomicAdd(emit.at(slots.pointer(sum.getInput().str()), index), value);
    });
  }
  void scatter(ScalarRegion &region, dialect::AccumulateOp sum, Value value, const RegionContext &context) {
    const std::string name = sum.getInput().str();
    const target::TensorInfo &info = slots.info(name);
    std::vector<Value> indices = region.safeIndices(sum.getInput(), sum.getIndices());
    Value offset = headRow(context);
    for (auto [index, dim] : llvm::zip(indices, info.dims))
      if (dim != "B" && dim != "H" && dim != "G")
        offset = emit.add(emit.mul(offset, slots.dim(dim)), emit.toI64(index));
    Value matters = arith::CmpFOp::create(builder, emit.loc, arith::CmpFPredicate::UNE, value, emit.constantF(0));
    emit.when(matters, [&] { atomicAdd(emit.at(slots.pointer(name), offset), value); });
  }

  void emitRowwise(tile::RowwiseOp op) {
    mlir::Block &body = op.getBody().front();
    auto results = mlir::cast<tile::ResultOp>(body.getTerminator()).getValues();
    for (Value result : op.getResults()) fragments[result] = rowFragment();
    Value first = emit.mul(scalar(op.getQuery()), emit.i64(tileQ));
    eachRow(tileQ, [&](int64_t block, int half, Value row) {
      RegionContext context{scalar(op.getBatch()), scalar(op.getHead()), emit.add(first, row), Value(), Value(), false};
      context.inBounds = below(context.i, "T");
      ScalarRegion region(emit, slots, context);
      region.onOuter = [&](Value value) { return plan.plain(value); };
      region.bindCoordinate(body.getArgument(0), ScalarRegion::Coordinate::I);
      region.bindCoordinate(op.getBatch(), ScalarRegion::Coordinate::B);
      region.bindCoordinate(op.getHead(), ScalarRegion::Coordinate::H);
      for (auto [at, own] : llvm::enumerate(op.getRows()))
        region.bind(body.getArgument(at + 1), fragment(own).values[block * 2 + half]);
      region.onAccumulate = [&](dialect::AccumulateOp sum, Value value) { addToRow(sum, value, context, context.i); };
      region.emitBlock(body);
      for (auto [at, value] : llvm::enumerate(results))
        fragments[op.getResult(at)].values.push_back(region.result(value));
    });
  }

  /// The four threads of a row take every fourth column.
  void emitRowDot(tile::RowDotOp op) {
    Fragment lhs = fragment(op.getLhs()), rhs = fragment(op.getRhs());
    Fragment result = rowFragment();
    mlir::Type element = emit.storage(type);
    eachRow(tileQ, [&](int64_t, int, Value row) {
      Value inside = emit.less(row, lhs.valid);
      Value safe = select(inside, row, emit.i64(0));
      auto load = [&](const Fragment &from, Value column) -> Value {
        Value index = emit.add(emit.mul(safe, from.stride), column);
        Value value =
            emit.load(element, emit.at(from.source, index, element), static_cast<unsigned>(weft::bytesOf(type)));
        if (type == ElementType::F32) return value;
        return arith::ExtFOp::create(builder, emit.loc, builder.getF32Type(), value);
      };
      auto sums = emit.loop(emit.toI64(warp.quad), emit.i64(lhs.columns), 4, mlir::ValueRange{emit.constantF(0)},
                            [&](Value column, mlir::ValueRange carried) {
                              return std::vector<Value>{emit.fma(load(lhs, column), load(rhs, column), carried[0])};
                            });
      result.values.push_back(warp.reduceRow(sums[0], false));
    });
    fragments[op.getResult()] = result;
  }

  // ---- stores ------------------------------------------------------------------------------

  void emitStore(tile::StoreOp op) {
    const Fragment &value = fragment(op.getValue());
    const std::string name = op.getTensor().str();
    const ElementType type = slots.info(name).element;
    // Query-side tensors go by head, key-side gradients by the program's own group.
    const bool query = slots.info(name).dims[2] == "T";
    mlir::Type element = emit.storage(type);
    Value first = emit.mul(scalar(op.getIndex()), emit.i64(value.rows));
    Value out = slots.row(name, scalar(op.getBatch()),
                          query ? slots.headOf(name, scalar(op.getHead())) : scalar(op.getHead()), first);
    eachElement(value, emit.sub(slots.dim(slots.info(name).dims[2]), first), out, slots.stride(name, 2), element,
                [&](Value pointer, Value number) {
                  if (type != ElementType::F32) number = arith::TruncFOp::create(builder, emit.loc, element, number);
                  emit.store(number, pointer, static_cast<unsigned>(weft::bytesOf(type)));
                });
  }

  void emitStoreRows(tile::StoreRowsOp op) {
    const Fragment &value = fragment(op.getValue());
    Value first = emit.mul(scalar(op.getIndex()), emit.i64(tileQ));
    Value valid = emit.sub(slots.dim("T"), first);
    Value out = slots.row(op.getTensor().str(), scalar(op.getBatch()), scalar(op.getHead()), first);
    eachRow(tileQ, [&](int64_t block, int half, Value row) {
      emit.when(both(isFirstOfRow(), emit.less(row, valid)),
                [&] { emit.store(value.values[block * 2 + half], emit.at(out, row)); });
    });
  }
};

}  // namespace
}  // namespace weft::nvptx

namespace weft {

#define GEN_PASS_DEF_LOWERTONVVM
#include "compiler/Passes.h.inc"

namespace {

struct LowerToNvvm : impl::LowerToNvvmBase<LowerToNvvm> {
  using LowerToNvvmBase::LowerToNvvmBase;

  void runOnOperation() override {
    mlir::ModuleOp module = getOperation();
    const bool lowered = attempt(module, [&] {
      for (auto kernel : llvm::make_early_inc_range(module.getOps<tile::KernelOp>())) {
        nvptx::KernelLowering(module, kernel).run();
        kernel.erase();
      }
    });
    if (!lowered) return signalPassFailure();
  }
};

}  // namespace
}  // namespace weft
