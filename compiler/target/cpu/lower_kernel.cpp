// Tile kernels to vector code for a CPU.
//
// Before: one tile.kernel without weft.map. After: func.func @<kernel>(slots, begin, end, scratch)
// of scf, arith, math, vector and llvm memory operations; it runs programs begin .. end of the grid.
//
// Logits lie transposed, [key][query]: queries fill the lanes of a register. Row maxima and sums are
// then lane-wise, keys and values are broadcast from where they are in memory, and only the query
// side is ever packed, once a query tile.
#include <limits>

#include "compiler/compiler.h"
#include "compiler/passes.h"
#include "compiler/target/cpu/amx.h"
#include "compiler/target/cpu/object_code.h"
#include "compiler/target/cpu/product.h"
#include "compiler/target/grid.h"
#include "compiler/target/image.h"
#include "compiler/target/kept_tiles.h"
#include "compiler/target/plan_region.h"
#include "compiler/target/scalar_region.h"
#include "llvm/ADT/STLExtras.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace weft::cpu {
namespace {

namespace arith = mlir::arith;
namespace vector = mlir::vector;

using target::KeptTiles;
using target::PlanRegion;
using target::RegionContext;
using target::ScalarRegion;
using target::Slots;
using target::TensorInfo;

/// A strided f32 matrix in memory: element (r, c) at base[r * stride + c].
struct Matrix {
  Value base;    ///< !llvm.ptr
  Value stride;  ///< i64, elements
};

/// How a tile value lives in memory: f32, and with AMX bf16 in the arrangements its products take.
struct Buffer {
  enum class Kind {
    Operand,     ///< rows of an input: natural [row][column], and packed [column][row] for queries
    Transposed,  ///< [column][query]: logits, query-side accumulators
    Natural,     ///< [row][column]: key-side accumulators
    Rows,        ///< one f32 a query
  };
  Kind kind = Kind::Rows;
  Matrix natural;
  Value packed;     ///< Operand of queries: [column][query]
  Value memory;     ///< Transposed, Natural, Rows
  Value validRows;  ///< Operand: rows inside the tensor (i64)
  int64_t rows = 0, columns = 0;
  Amx::Operand amxRows, amxTransposed;       ///< Operand of keys
  Amx::Operand amxColumnPairs, amxRowPairs;  ///< Operand of queries
};

struct LowerOptions {
  Machine machine;
  int blockRows = 6;
};

class KernelLowering {
 public:
  KernelLowering(mlir::ModuleOp module, tile::KernelOp kernel, const LowerOptions &options)
      : options(options),
        builder(module.getContext()),
        emit(builder, options.machine),
        slots(emit, kernel),
        amx(emit),
        plan(emit, slots, scalars),
        module(module),
        kernel(kernel),
        tileQ(kernel.getTileQ()),
        tileK(kernel.getTileK()) {
    useAmx = options.machine.amx && target::rowType(kernel) == ElementType::BF16 && tileQ % 32 == 0 && tileK % 32 == 0;
    kernel.walk([&](tile::LoadOp load) { useAmx &= shapeOf(load.getResult())[1] % 16 == 0; });
    bool any = false;
    kernel.walk([&](mlir::Operation *op) { any |= mlir::isa<tile::DotOp, tile::DotIntoOp>(op); });
    useAmx &= any;
  }

  void run() {
    builder.setInsertionPointToEnd(module.getBody());
    mlir::Type i64 = builder.getI64Type(), pointer = emit.ptrType();
    auto type = builder.getFunctionType({pointer, i64, i64, pointer}, {});
    auto function = mlir::func::FuncOp::create(builder, emit.loc, target::entryName(kernel), type);
    mlir::Block *entry = function.addEntryBlock();
    builder.setInsertionPointToStart(entry);
    mlir::func::ReturnOp::create(builder, emit.loc);
    scratch = entry->getArgument(3);
    slots.setEntry(entry, entry->getArgument(0));
    builder.setInsertionPoint(entry->getTerminator());

    if (useAmx) amx.configure(allocate(16));
    target::ProgramGrid grid(emit, slots, kernel);
    emit.loop(entry->getArgument(1), entry->getArgument(2), 1, [&](Value p) {
      grid.bind(p, scalars);
      plan.workspace = scratch;  // programs that have one keep no tiles
      emitBlock(kernel.getBody().front());
    });
    if (useAmx) amx.release();

    KernelImage image = grid.image(function.getSymName());
    image.scratchBytes = scratchFloats * 4;
    target::describeImage(function, image);
  }

 private:
  LowerOptions options;
  mlir::OpBuilder builder;
  Emitter emit;
  Slots slots;
  llvm::DenseMap<Value, Value> scalars;  ///< i32 / i1 / f32 of the kernel to i64 / i1 / f32
  Amx amx;
  PlanRegion plan;
  bool useAmx = false;
  mlir::ModuleOp module;
  tile::KernelOp kernel;
  int64_t tileQ, tileK;
  Value scratch;
  int64_t scratchFloats = 0;
  llvm::DenseMap<Value, Buffer> buffers;

  Value tileCount(const std::string &dim, int64_t tile) { return target::tileCount(emit, slots, dim, tile); }

  /// `floats` of this thread's scratch memory, 64-byte aligned.
  Value allocate(int64_t floats) {
    Value pointer = emit.at(scratch, emit.i64(scratchFloats));
    scratchFloats += (floats + 15) / 16 * 16;
    return pointer;
  }

  Value scalar(Value value) {
    auto found = scalars.find(value);
    internalCheck(found != scalars.end(), "cpu lowering", "scalar without a value");
    return found->second;
  }
  Buffer &buffer(Value value) {
    auto found = buffers.find(value);
    internalCheck(found != buffers.end(), "cpu lowering", "tile without a buffer");
    return found->second;
  }
  static llvm::ArrayRef<int64_t> shapeOf(Value value) {
    return mlir::cast<mlir::RankedTensorType>(value.getType()).getShape();
  }

  void emitBlock(mlir::Block &block) {
    for (mlir::Operation &op : block) emitOp(op);
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
    if (mlir::isa<tile::YieldOp, tile::TensorOp>(op)) return;  // the loop copies
    plan.emitOp(op);
  }

  // ---- loads -------------------------------------------------------------------------------

  void emitLoad(tile::LoadOp op) {
    const bool query = op.getSide() == tile::Side::Query;
    const std::string name = op.getTensor().str();
    const ElementType type = slots.info(name).element;
    Buffer result;
    result.kind = Buffer::Kind::Operand;
    result.rows = shapeOf(op.getResult())[0];
    result.columns = shapeOf(op.getResult())[1];
    Value first = emit.mul(scalar(op.getIndex()), emit.i64(result.rows));
    const std::string &dim = slots.info(name).dims[2];
    const bool listed = slots.listed(dim);
    result.validRows = emit.min(emit.sub(slots.dim(slots.keyExtent(dim)), first), emit.i64(result.rows));
    Value head = slots.headOf(name, scalar(op.getHead())), stride = slots.stride(name, 2), source;
    if (listed) {
      source = gather(name, scalar(op.getBatch()), head, first, result);
      stride = emit.i64(result.columns);
    } else {
      source = slots.row(name, scalar(op.getBatch()), head, first);
    }
    if (useAmx) {
      loadForAmx(op, result, source, stride);
      buffers[op.getResult()] = result;
      return;
    }
    bool packed = false, natural = false;
    for (mlir::OpOperand &use : op.getResult().getUses()) {
      auto dot = mlir::dyn_cast<tile::DotOp>(use.getOwner());
      (query && dot && dot.getForm() == tile::DotForm::NT ? packed : natural) = true;
    }
    if (type == ElementType::F32) {
      result.natural = {source, stride};
    } else if (natural || !query) {
      // Other types become f32 once a tile.
      Value memory = allocate(result.rows * result.columns);
      emit.loop(emit.i64(0), result.validRows, 1, [&](Value row) {
        Value from = emit.at(source, emit.mul(row, stride), emit.storage(type));
        Value to = emit.at(memory, emit.mul(row, emit.i64(result.columns)));
        for (int64_t c = 0; c < result.columns; c += options.machine.lanes) {
          Value part = emit.loadAs(type, emit.at(from, emit.i64(c), emit.storage(type)), result.columns - c);
          emit.storeLanes(part, emit.at(to, emit.i64(c)), result.columns - c);
        }
      });
      result.natural = {memory, emit.i64(result.columns)};
    }
    if (packed) result.packed = pack(source, stride, type, result.validRows, result.rows, result.columns);
    buffers[op.getResult()] = result;
  }

  /// The rows that the list names, side by side.
  Value gather(const std::string &name, Value batch, Value head, Value first, const Buffer &own) {
    const ElementType type = slots.info(name).element;
    Value memory = allocate((own.rows * own.columns * bytesOf(type) + 3) / 4);
    mlir::Type element = emit.storage(type);
    emit.loop(emit.i64(0), own.validRows, 1, [&](Value row) {
      Value from = slots.row(name, batch, head, slots.keyAt(emit.add(first, row)).first);
      Value to = emit.at(memory, emit.mul(row, emit.i64(own.columns)), element);
      for (int64_t c = 0; c < own.columns; c += options.machine.lanes) {
        Value part = emit.loadAs(type, emit.at(from, emit.i64(c), element), own.columns - c);
        emit.storeAs(type, part, emit.at(to, emit.i64(c), element), own.columns - c);
      }
    });
    return memory;
  }

  void loadForAmx(tile::LoadOp op, Buffer &result, Value source, Value stride) {
    const int64_t rows = result.rows, columns = result.columns, depth = Amx::roundUp(columns, 32);
    bool nt = false, nn = false, tn = false;
    for (mlir::Operation *user : op.getResult().getUsers()) {
      tile::DotForm form = tile::DotForm::TN;
      if (auto dot = mlir::dyn_cast<tile::DotOp>(user)) form = dot.getForm();
      (form == tile::DotForm::NT ? nt : form == tile::DotForm::NN ? nn : tn) = true;
    }
    if (op.getSide() == tile::Side::Query) {
      if (nt)
        result.amxColumnPairs =
            amx.transposedPairs(source, stride, result.validRows, rows, columns, allocate(rows * depth / 2));
      if (tn)
        result.amxRowPairs =
            amx.rowPairs(source, stride, result.validRows, rows, columns, allocate(rows * columns / 2));
    } else {
      result.amxRows = amx.rows(source, stride, result.validRows, rows, columns, allocate(rows * depth / 2));
      if (nn) result.amxTransposed = amx.transposed(result.amxRows, rows, columns, allocate(rows * columns / 2));
    }
  }

  /// [column][row] copy of a row-major tile; rows past the end become zero.
  Value pack(Value source, Value stride, ElementType type, Value valid, int64_t rows, int64_t columns) {
    const int lanes = options.machine.lanes;
    mlir::Type element = emit.storage(type);
    const int64_t padded = (columns + lanes - 1) / lanes * lanes;
    Value memory = allocate(padded * rows);
    emit.loop(emit.i64(0), emit.i64(rows), lanes, [&](Value row) {
      auto block = [&](Value column, int64_t count) {
        std::vector<Value> vectors;
        for (int r = 0; r < lanes; ++r) {
          Value own = emit.add(row, emit.i64(r));
          Value inside = emit.less(own, valid);
          // Row 0 always exists; what is read from it in place of a missing row is dropped.
          Value safe = arith::SelectOp::create(builder, emit.loc, inside, own, emit.i64(0));
          Value pointer = emit.at(source, emit.add(emit.mul(safe, stride), column), element);
          Value part = emit.loadAs(type, pointer, count);
          vectors.push_back(arith::SelectOp::create(builder, emit.loc, inside, part, emit.zeros()));
        }
        vectors = emit.transpose(std::move(vectors));
        for (int c = 0; c < lanes; ++c) {
          Value to = emit.add(emit.mul(emit.add(column, emit.i64(c)), emit.i64(rows)), row);
          emit.store(vectors[c], emit.at(memory, to));
        }
      };
      const int64_t whole = columns / lanes * lanes;
      if (whole) emit.loop(emit.i64(0), emit.i64(whole), lanes, [&](Value column) { block(column, lanes); });
      if (whole < columns) block(emit.i64(whole), columns - whole);
    });
    return memory;
  }

  void emitLoadRows(tile::LoadRowsOp op) {
    Buffer result = rowBuffer();
    Value first = emit.mul(scalar(op.getIndex()), emit.i64(tileQ));
    Value valid = emit.sub(slots.dim("T"), first);
    const std::string name = op.getTensor().str();
    Value source = slots.row(name, scalar(op.getBatch()), scalar(op.getHead()), first);
    Value fill = emit.splat(emit.constantF(op.getFill().convertToFloat()));
    emit.loop(emit.i64(0), emit.i64(tileQ), options.machine.lanes, [&](Value lane) {
      Value mask = emit.firstLanes(emit.sub(valid, lane));
      Value part =
          mlir::LLVM::MaskedLoadOp::create(builder, emit.loc, emit.floats(), emit.at(source, lane), mask, fill, 4);
      emit.store(part, emit.at(result.memory, lane));
    });
    buffers[op.getResult()] = result;
  }

  Buffer rowBuffer() {
    Buffer result;
    result.kind = Buffer::Kind::Rows;
    result.rows = tileQ;
    result.columns = 1;
    result.memory = allocate(tileQ);
    return result;
  }

  Buffer transposedBuffer(int64_t columns) {
    Buffer result;
    result.kind = Buffer::Kind::Transposed;
    result.rows = tileQ;
    result.columns = columns;
    const int lanes = options.machine.lanes;
    result.memory = allocate((columns + lanes - 1) / lanes * lanes * tileQ);
    return result;
  }

  void emitFill(tile::FillOp op) {
    auto shape = shapeOf(op.getResult());
    Buffer result;
    if (shape.size() == 1) {
      result = rowBuffer();
    } else if (op.getSide() == tile::Side::Query) {
      result = transposedBuffer(shape[1]);
    } else {
      result.kind = Buffer::Kind::Natural;
      result.rows = shape[0];
      result.columns = shape[1];
      result.memory = allocate(shape[0] * shape[1] + options.machine.lanes);
    }
    auto attr = op.getValue().getDefiningOp<arith::ConstantOp>();
    internalCheck(attr != nullptr, "cpu lowering", "fill with a value that is no constant");
    Value value = emit.splat(emit.constantF(mlir::cast<mlir::FloatAttr>(attr.getValue()).getValue().convertToFloat()));
    const int64_t total = result.rows * result.columns;
    emit.loop(emit.i64(0), emit.i64(total), options.machine.lanes,
              [&](Value index) { emit.store(value, emit.at(result.memory, index)); });
    buffers[op.getResult()] = result;
  }

  // ---- loops -------------------------------------------------------------------------------

  void emitFor(tile::ForOp op) {
    const tile::Range over = op.getOver();
    mlir::Block &body = op.getBody().front();
    const bool kept = op.overKept();
    // Carried tiles stay in one place; a turn writes its results there.
    auto carriedArguments = body.getArguments().drop_front(kept ? 2 : 1);
    for (auto [argument, init, result] : llvm::zip(carriedArguments, op.getInits(), op.getResults())) {
      const Buffer own = buffer(init);  // a new entry may move the others
      buffers[argument] = own;
      buffers[result] = own;
    }
    auto turn = [&](Value index, Value full) {
      scalars[body.getArgument(0)] = index;
      if (kept) scalars[body.getArgument(1)] = full;
      emitBlock(body);
      auto yield = mlir::cast<tile::YieldOp>(body.getTerminator());
      for (auto [argument, value] : llvm::zip(carriedArguments, yield.getValues()))
        copyInto(buffer(argument), buffer(value));
    };
    if (over == tile::Range::Turns) {
      emit.loop(emit.i64(0), emit.i64(op.turns()), 1, [&](Value at) { turn(at, Value()); });
      return;
    }
    Value batch = scalar(op.getBatch()), head = scalar(op.getHead()), start = scalar(op.getStart());
    if (op.overKeys()) slots.enterRow(batch, head, emit.mul(start, emit.i64(tileQ)));
    if (over == tile::Range::Heads) {
      Value perGroup = emit.div(slots.dim("H"), slots.dim("G"));
      Value first = emit.mul(start, perGroup);
      emit.loop(first, emit.add(first, perGroup), 1, [&](Value h) { turn(h, Value()); });
    } else if (over == tile::Range::Queries) {
      emit.loop(emit.i64(0), tileCount("T", tileQ), 1, [&](Value qt) { turn(qt, Value()); });
    } else {
      KeptTiles kept = keptTiles(emit, slots, {tileQ, tileK}, target::keptLoop(op), batch, head, start);
      emit.loop(kept.from, kept.to, 1, [&](Value at) {
        auto [index, full] = kept.tile(at);
        turn(index, full);
      });
    }
  }

  void copyInto(const Buffer &to, const Buffer &from) {
    if (to.memory == from.memory) return;
    const int64_t total = to.rows * to.columns;
    emit.loop(emit.i64(0), emit.i64(total), options.machine.lanes, [&](Value index) {
      emit.store(emit.load(emit.floats(), emit.at(from.memory, index)), emit.at(to.memory, index));
    });
  }

  // ---- products ----------------------------------------------------------------------------

  void emitDot(tile::DotOp op) {
    const tile::DotForm form = op.getForm();
    Buffer &lhs = buffer(op.getLhs()), &rhs = buffer(op.getRhs());
    Value rowStride = emit.i64(tileQ);
    if (useAmx) {
      if (form == tile::DotForm::NT) {
        Buffer out = transposedBuffer(rhs.rows);
        amx.product(out.memory, rowStride, rhs.amxRows, lhs.amxColumnPairs, rhs.rows, tileQ,
                    Amx::roundUp(lhs.columns, 32), false);
        buffers[op.getResult()] = out;
        return;
      }
      Buffer out = buffer(op.getAcc());
      if (form == tile::DotForm::NN) {
        Amx::Operand pairs = amx.pairsOf(lhs.memory, rhs.validRows, tileK, tileQ, allocate(tileK * tileQ / 2));
        amx.product(out.memory, rowStride, rhs.amxTransposed, pairs, rhs.columns, tileQ, tileK, true);
      } else {
        Amx::Operand halves = amx.halvesOf(lhs.memory, rhs.validRows, tileK, tileQ, allocate(tileK * tileQ / 2));
        amx.product(out.memory, emit.i64(out.columns), halves, rhs.amxRowPairs, tileK, out.columns, tileQ, true);
      }
      buffers[op.getResult()] = out;
      return;
    }
    if (form == tile::DotForm::NT) {
      // logits[j][i] = sum over c of keys[j][c] * packed[c][i]
      Buffer out = transposedBuffer(rhs.rows);
      product(emit, {out.memory, rowStride, rhs.natural.base, rhs.natural.stride, emit.i64(1), lhs.packed, rowStride,
                     rhs.validRows, emit.i64(lhs.columns), tileQ, false, options.blockRows, op.getBlocked()});
      buffers[op.getResult()] = out;
      return;
    }
    Buffer out = buffer(op.getAcc());
    if (form == tile::DotForm::NN)
      // out[e][i] += sum over j of values[j][e] * p[j][i]
      product(emit, {out.memory, rowStride, rhs.natural.base, emit.i64(1), rhs.natural.stride, lhs.memory, rowStride,
                     emit.i64(rhs.columns), rhs.validRows, tileQ, true, options.blockRows});
    else
      // out[j][e] += sum over i of p[j][i] * queries[i][e]
      product(emit, {out.memory, emit.i64(out.columns), lhs.memory, rowStride, emit.i64(1), rhs.natural.base,
                     rhs.natural.stride, emit.i64(out.rows), rhs.validRows, out.columns, true, options.blockRows});
    buffers[op.getResult()] = out;
  }

  void emitDotInto(tile::DotIntoOp op) {
    Buffer &lhs = buffer(op.getLhs()), &rhs = buffer(op.getRhs());
    const std::string name = op.getTensor().str();
    const std::string &dim = slots.info(name).dims[2];
    const bool listed = slots.listed(dim);
    Value first = emit.mul(scalar(op.getIndex()), emit.i64(tileK));
    Value valid = emit.min(emit.sub(slots.dim(slots.keyExtent(dim)), first), emit.i64(tileK)),
          stride = slots.stride(name, 2);
    Value out =
        slots.row(name, scalar(op.getBatch()), slots.headOf(name, scalar(op.getHead())), listed ? emit.i64(0) : first);
    Value staged, width = emit.i64(rhs.columns);
    // Rows of `staged` to where they belong.
    auto addRows = [&] {
      emit.loop(emit.i64(0), valid, 1, [&](Value row) {
        auto [key, exists] = listed ? slots.keyAt(emit.add(first, row)) : std::pair{row, Value()};
        auto add = [&, key = key] {
          for (int64_t c = 0; c < rhs.columns; c += options.machine.lanes) {
            Value to = emit.at(out, emit.add(emit.mul(key, stride), emit.i64(c)));
            Value more = emit.loadLanes(emit.at(staged, emit.add(emit.mul(row, width), emit.i64(c))), rhs.columns - c);
            Value old = emit.loadLanes(to, rhs.columns - c);
            emit.storeLanes(arith::AddFOp::create(builder, emit.loc, old, more), to, rhs.columns - c);
          }
        };
        exists ? emit.when(exists, add) : add();
      });
    };
    if (useAmx) {
      Amx::Operand halves = amx.halvesOf(lhs.memory, rhs.validRows, tileK, tileQ, allocate(tileK * tileQ / 2));
      auto multiply = [&](Value to, Value step, bool accumulate) {
        amx.product(to, step, halves, rhs.amxRowPairs, tileK, rhs.columns, tileQ, accumulate);
      };
      staged = allocate(tileK * rhs.columns);
      auto byWay = [&] {
        multiply(staged, width, false);
        addRows();
      };
      if (listed) return byWay();
      // The last keys: registers reach past the end, so their sums go by way of scratch memory.
      emit.choose(emit.less(valid, emit.i64(tileK)), byWay, [&] { multiply(out, stride, true); });
      return;
    }
    if (listed) {
      staged = allocate(tileK * rhs.columns + options.machine.lanes);
      emit.loop(emit.i64(0), emit.i64(tileK * rhs.columns), options.machine.lanes,
                [&](Value at) { emit.store(emit.zeros(), emit.at(staged, at)); });
      product(emit, {staged, width, lhs.memory, emit.i64(tileQ), emit.i64(1), rhs.natural.base, rhs.natural.stride,
                     valid, rhs.validRows, rhs.columns, true, options.blockRows});
      return addRows();
    }
    product(emit, {out, stride, lhs.memory, emit.i64(tileQ), emit.i64(1), rhs.natural.base, rhs.natural.stride, valid,
                   rhs.validRows, rhs.columns, true, options.blockRows});
  }

  void emitScale(tile::ScaleRowsOp op) {
    Buffer tile = buffer(op.getTile());
    Buffer &factors = buffer(op.getFactors());
    emit.loop(emit.i64(0), emit.i64(tileQ), options.machine.lanes, [&](Value lane) {
      Value factor = emit.load(emit.floats(), emit.at(factors.memory, lane));
      Value one = emit.splat(emit.constantF(1));
      Value differs = arith::CmpFOp::create(builder, emit.loc, arith::CmpFPredicate::UNE, factor, one);
      Value any = vector::ReductionOp::create(builder, emit.loc, vector::CombiningKind::OR, differs);
      emit.when(any, [&] {
        emit.loop(emit.i64(0), emit.i64(tile.columns), 1, [&](Value column) {
          Value pointer = emit.at(tile.memory, emit.add(emit.mul(column, emit.i64(tileQ)), lane));
          Value value = emit.load(emit.floats(), pointer);
          emit.store(arith::MulFOp::create(builder, emit.loc, value, factor), pointer);
        });
      });
    });
    buffers[op.getResult()] = tile;
  }

  // ---- scalar programs ---------------------------------------------------------------------

  void emitScanSum(tile::ScanSumOp op) {
    const Buffer own = buffer(op.getTile());
    Buffer sums = transposedBuffer(tileK), totals = rowBuffer();
    Value keys = emit.min(emit.sub(slots.dim("S"), emit.mul(scalar(op.getKey()), emit.i64(tileK))), emit.i64(tileK));
    Value last = emit.sub(keys, emit.i64(1));
    emit.loop(emit.i64(0), emit.i64(tileQ), options.machine.lanes, [&](Value lane) {
      Value total =
          emit.loop(emit.i64(0), keys, 1, mlir::ValueRange{emit.zeros()}, [&](Value turn, mlir::ValueRange carried) {
            Value key = op.getSide() == tile::ScanSide::After ? emit.sub(last, turn) : turn;
            Value index = emit.add(emit.mul(key, emit.i64(tileQ)), lane);
            Value value = emit.load(emit.floats(), emit.at(own.memory, index));
            emit.store(carried[0], emit.at(sums.memory, index));
            return std::vector<Value>{arith::AddFOp::create(builder, emit.loc, carried[0], value)};
          })[0];
      emit.store(total, emit.at(totals.memory, lane));
    });
    buffers[op.getSums()] = sums;
    buffers[op.getTotals()] = totals;
  }

  void emitPairwise(tile::PairwiseOp op) {
    // A tile used here for the last time gives its place to a result.
    std::vector<Buffer> reusable;
    for (Value operand : op.getTiles())
      if (operand.hasOneUse()) reusable.push_back(buffer(operand));
    size_t next = 0;
    for (auto [at, result] : llvm::enumerate(op.getResults())) {
      if (at >= op.tileResults()) buffers[result] = rowBuffer();
      else buffers[result] = next < reusable.size() ? reusable[next++] : transposedBuffer(tileK);
    }
    Value batch = scalar(op.getBatch()), head = scalar(op.getHead());
    Value first = emit.mul(scalar(op.getQuery()), emit.i64(tileQ));
    Value firstKey = emit.mul(scalar(op.getKey()), emit.i64(tileK));
    Value keys = emit.min(emit.sub(slots.dim(slots.keyExtent(op.getKeyDim().str())), firstKey), emit.i64(tileK));
    bool anyMask = false;
    op.getBody().walk([&](dialect::MaskOp) { anyMask = true; });
    bool accumulates = false;
    op.getBody().walk([&](dialect::AccumulateOp) { accumulates = true; });
    auto pass = [&](bool full) {
      emitPairwisePass(op, {batch, head, first, Value(), Value(), full, true, op.getKeyDim().str()}, firstKey, keys);
    };
    if (!anyMask && !accumulates) pass(true);
    else emit.choose(scalar(op.getFull()), [&] { pass(true); }, [&] { pass(false); });
  }

  void emitPairwisePass(tile::PairwiseOp op, RegionContext context, Value firstKey, Value keys) {
    mlir::Block &body = op.getBody().front();
    auto results = mlir::cast<tile::ResultOp>(body.getTerminator()).getValues();
    std::vector<dialect::AccumulateOp> carriedSums;  // per head and per query: one vector each
    body.walk([&](dialect::AccumulateOp sum) {
      if (sum.getPer() == dialect::Dependence::Head || sum.getPer() == dialect::Dependence::Query)
        carriedSums.push_back(sum);
    });
    const size_t tiles = op.tileResults(), reductions = op.getReductions().size();
    Value firstQuery = context.i;
    const int lanes = options.machine.lanes;
    const int group = vectorsTogether(body);
    Value total = slots.dim("T");
    emit.loop(emit.i64(0), emit.i64(tileQ), group * lanes, [&](Value firstLane) {
      // `group` vectors of queries go through the keys side by side: their sums are independent chains.
      std::vector<Value> inits, laneOf;
      std::vector<RegionContext> contexts;
      std::vector<std::vector<Value>> rowValues(group);
      for (int v = 0; v < group; ++v) {
        Value lane = laneOf.emplace_back(emit.add(firstLane, emit.i64(v * lanes)));
        RegionContext &own = contexts.emplace_back(context);
        own.i = emit.add(firstQuery, lane);
        if (!own.full) own.inBounds = emit.firstLanes(emit.sub(total, own.i));
        for (size_t at = 0; at < reductions; ++at) {
          const bool max = op.reduction(at) == tile::Reduction::Max;
          const float start = max ? -std::numeric_limits<float>::infinity() : 0.0f;
          inits.push_back(emit.splat(emit.constantF(start)));
        }
        for (size_t at = 0; at < carriedSums.size(); ++at) inits.push_back(emit.zeros());
        for (Value row : op.getRows())
          rowValues[v].push_back(emit.load(emit.floats(), emit.at(buffer(row).memory, lane)));
      }
      const size_t carriedEach = reductions + carriedSums.size();
      auto element = [&](Value tile, Value j, Value lane) {
        Value index = emit.add(emit.mul(j, emit.i64(tileQ)), lane);
        return emit.at(buffer(tile).memory, index);
      };
      auto sums = emit.loop(emit.i64(0), keys, 1, inits, [&](Value j, mlir::ValueRange carried) {
        std::vector<Value> next(carried.begin(), carried.end());
        for (int v = 0; v < group; ++v) {
          RegionContext own = contexts[v];
          Value exists;
          own.j = emit.add(firstKey, j);
          if (slots.listed(own.keyDim)) std::tie(own.j, exists) = slots.keyAt(own.j);
          if (exists && !own.full)
            own.inBounds = arith::AndIOp::create(builder, emit.loc, own.inBounds, emit.splat(exists));
          ScalarRegion region(emit, slots, own);
          region.onOuter = [&](Value value) { return plan.plain(value); };
          bindPair(region, op, body, rowValues[v],
                   [&](Value tile) { return emit.load(emit.floats(), element(tile, j, laneOf[v])); });
          region.onAccumulate = [&](dialect::AccumulateOp sum, Value value) {
            auto found = llvm::find(carriedSums, sum);
            if (found == carriedSums.end()) return scatter(region, sum, value, own);
            Value &slot = next[v * carriedEach + reductions + (found - carriedSums.begin())];
            if (!mlir::isa<mlir::VectorType>(value.getType())) value = emit.splat(value);
            slot = arith::AddFOp::create(builder, emit.loc, slot, value);
          };
          region.emitBlock(body);
          for (size_t at = 0; at < results.size(); ++at) {
            Value value = region.result(results[at]);
            if (at < tiles) {
              emit.store(value, element(op.getResult(at), j, laneOf[v]));
              continue;
            }
            Value &slot = next[v * carriedEach + at - tiles];
            if (op.reduction(at - tiles) == tile::Reduction::Max) {
              // One vmaxps. A NaN may pass by: the row's sum of exponentials will show it.
              Value more = arith::CmpFOp::create(builder, emit.loc, arith::CmpFPredicate::OGT, value, slot);
              slot = arith::SelectOp::create(builder, emit.loc, more, value, slot);
            } else {
              slot = arith::AddFOp::create(builder, emit.loc, slot, value);
            }
          }
        }
        return next;
      });
      for (int v = 0; v < group; ++v) {
        for (size_t at = 0; at < reductions; ++at)
          emit.store(sums[v * carriedEach + at], emit.at(buffer(op.getResult(tiles + at)).memory, laneOf[v]));
        for (size_t at = 0; at < carriedSums.size(); ++at)
          addCarried(carriedSums[at], sums[v * carriedEach + reductions + at], contexts[v]);
      }
    });
  }

  /// How many vectors of queries a pairwise pass takes at once: as many as its values leave registers for.
  int vectorsTogether(mlir::Block &body) {
    const size_t size = body.getOperations().size();
    int group = size <= 24 ? 4 : size <= 48 ? 2 : 1;
    if (options.machine.registers < 32) group = std::max(1, group / 2);
    while (tileQ / options.machine.lanes % group) group /= 2;
    return group;
  }

  template <class LoadTile>
  void bindPair(ScalarRegion &region, tile::PairwiseOp op, mlir::Block &body, llvm::ArrayRef<Value> rowValues,
                LoadTile loadTile) {
    unsigned argument = 0;
    region.bindCoordinate(body.getArgument(argument++), ScalarRegion::Coordinate::I);
    region.bindCoordinate(body.getArgument(argument++), ScalarRegion::Coordinate::J);
    region.bindCoordinate(op.getBatch(), ScalarRegion::Coordinate::B);
    region.bindCoordinate(op.getHead(), ScalarRegion::Coordinate::H);
    for (Value tile : op.getTiles()) region.bind(body.getArgument(argument++), loadTile(tile));
    for (Value value : rowValues) region.bind(body.getArgument(argument++), value);
  }

  /// Sums of each query: partial[b, h, i].
  void addCarried(dialect::AccumulateOp sum, Value value, const RegionContext &context) {
    const std::string name = sum.getInput().str();
    Value row = emit.add(emit.mul(context.batch, slots.dim("H")), context.head);
    Value pointer = emit.at(slots.pointer(name), emit.add(emit.mul(row, slots.dim("T")), context.i));
    Value mask = emit.firstLanes(emit.sub(slots.dim("T"), context.i));
    Value old = mlir::LLVM::MaskedLoadOp::create(builder, emit.loc, emit.floats(), pointer, mask, emit.zeros(), 4);
    Value next = arith::AddFOp::create(builder, emit.loc, old, value);
    mlir::LLVM::MaskedStoreOp::create(builder, emit.loc, next, pointer, mask, 4);
  }

  /// Adds to partial[b, h, j] (a sum over the lanes) or to scattered elements partial[b, h, ...].
  void scatter(ScalarRegion &region, dialect::AccumulateOp sum, Value value, const RegionContext &context) {
    const std::string name = sum.getInput().str();
    Value row = emit.add(emit.mul(context.batch, slots.dim("H")), context.head);
    auto addTo = [&](Value index, Value part) {
      Value pointer = emit.at(slots.pointer(name), index);
      Value old = emit.load(builder.getF32Type(), pointer);
      emit.store(arith::AddFOp::create(builder, emit.loc, old, part), pointer);
    };
    if (!mlir::isa<mlir::VectorType>(value.getType())) value = emit.splat(value);
    if (sum.getPer() == dialect::Dependence::Key) {
      Value part = vector::ReductionOp::create(builder, emit.loc, vector::CombiningKind::ADD, value);
      return addTo(emit.add(emit.mul(row, slots.dim(context.keyDim)), context.j), part);
    }
    const TensorInfo &info = slots.info(sum.getInput().str());
    std::vector<Value> indices = region.safeIndices(sum.getInput(), sum.getIndices());
    size_t leading = 0;
    while (leading < info.dims.size() &&
           (info.dims[leading] == "B" || info.dims[leading] == "H" || info.dims[leading] == "G"))
      ++leading;
    Value offset = emit.splat(row);
    for (size_t at = leading; at < indices.size(); ++at) {
      Value index = indices[at];
      if (!mlir::isa<mlir::VectorType>(index.getType())) index = emit.splat(index);
      Value wide = arith::ExtSIOp::create(builder, emit.loc, emit.vectorOf(builder.getI64Type()), index);
      offset = emit.add(emit.mul(offset, emit.splat(slots.dim(info.dims[at]))), wide);
    }
    for (int lane = 0; lane < options.machine.lanes; ++lane)
      addTo(vector::ExtractOp::create(builder, emit.loc, offset, static_cast<int64_t>(lane)),
            vector::ExtractOp::create(builder, emit.loc, value, static_cast<int64_t>(lane)));
  }

  void emitRowwise(tile::RowwiseOp op) {
    mlir::Block &body = op.getBody().front();
    auto results = mlir::cast<tile::ResultOp>(body.getTerminator()).getValues();
    for (Value result : op.getResults()) buffers[result] = rowBuffer();
    Value first = emit.mul(scalar(op.getQuery()), emit.i64(tileQ));
    emit.loop(emit.i64(0), emit.i64(tileQ), options.machine.lanes, [&](Value lane) {
      RegionContext context{
          scalar(op.getBatch()), scalar(op.getHead()), emit.add(first, lane), Value(), Value(), false};
      context.inBounds = emit.firstLanes(emit.sub(slots.dim("T"), context.i));
      ScalarRegion region(emit, slots, context);
      region.onOuter = [&](Value value) { return plan.plain(value); };
      region.bindCoordinate(body.getArgument(0), ScalarRegion::Coordinate::I);
      region.bindCoordinate(op.getBatch(), ScalarRegion::Coordinate::B);
      region.bindCoordinate(op.getHead(), ScalarRegion::Coordinate::H);
      for (auto [at, row] : llvm::enumerate(op.getRows()))
        region.bind(body.getArgument(at + 1), emit.load(emit.floats(), emit.at(buffer(row).memory, lane)));
      region.onAccumulate = [&](dialect::AccumulateOp sum, Value value) {
        if (!mlir::isa<mlir::VectorType>(value.getType())) value = emit.splat(value);
        addCarried(sum, value, context);
      };
      region.emitBlock(body);
      for (auto [at, value] : llvm::enumerate(results))
        emit.store(region.result(value), emit.at(buffer(op.getResult(at)).memory, lane));
    });
  }

  void emitRowDot(tile::RowDotOp op) {
    Buffer &lhs = buffer(op.getLhs()), &rhs = buffer(op.getRhs());
    Buffer result = rowBuffer();
    emit.loop(emit.i64(0), emit.i64(tileQ), options.machine.lanes,
              [&](Value lane) { emit.store(emit.zeros(), emit.at(result.memory, lane)); });
    emit.loop(emit.i64(0), lhs.validRows, 1, [&](Value row) {
      Value left = emit.at(lhs.natural.base, emit.mul(row, lhs.natural.stride));
      Value right = emit.at(rhs.natural.base, emit.mul(row, rhs.natural.stride));
      // In f64: what is left of do . v once this is taken off can be small.
      mlir::Type wide = emit.vectorOf(builder.getF64Type());
      Value sum = arith::ConstantOp::create(builder, emit.loc, builder.getZeroAttr(wide));
      for (int64_t c = 0; c < lhs.columns; c += options.machine.lanes) {
        Value x =
            arith::ExtFOp::create(builder, emit.loc, wide, emit.loadLanes(emit.at(left, emit.i64(c)), lhs.columns - c));
        Value y = arith::ExtFOp::create(builder, emit.loc, wide,
                                        emit.loadLanes(emit.at(right, emit.i64(c)), lhs.columns - c));
        sum = vector::FMAOp::create(builder, emit.loc, x, y, sum);
      }
      Value total = vector::ReductionOp::create(builder, emit.loc, vector::CombiningKind::ADD, sum);
      emit.store(arith::TruncFOp::create(builder, emit.loc, builder.getF32Type(), total), emit.at(result.memory, row));
    });
    buffers[op.getResult()] = result;
  }

  // ---- stores ------------------------------------------------------------------------------

  void emitStore(tile::StoreOp op) {
    Buffer &value = buffer(op.getValue());
    const std::string name = op.getTensor().str();
    const ElementType type = slots.info(name).element;
    mlir::Type element = emit.storage(type);
    const bool query = value.kind == Buffer::Kind::Transposed;
    Value first = emit.mul(scalar(op.getIndex()), emit.i64(value.rows));
    Value valid = emit.min(emit.sub(slots.dim(slots.info(name).dims[2]), first), emit.i64(value.rows));
    Value out = slots.row(name, scalar(op.getBatch()),
                          query ? slots.headOf(name, scalar(op.getHead())) : scalar(op.getHead()), first);
    Value stride = slots.stride(name, 2);
    const int lanes = options.machine.lanes;
    if (!query) {
      emit.loop(emit.i64(0), valid, 1, [&](Value row) {
        for (int64_t c = 0; c < value.columns; c += lanes) {
          Value index = emit.add(emit.mul(row, emit.i64(value.columns)), emit.i64(c));
          Value part = emit.loadLanes(emit.at(value.memory, index), value.columns - c);
          Value to = emit.at(out, emit.add(emit.mul(row, stride), emit.i64(c)), element);
          emit.storeAs(type, part, to, value.columns - c);
        }
      });
      return;
    }
    emit.loop(emit.i64(0), emit.i64(value.rows), lanes, [&](Value row) {
      auto block = [&](Value column, int64_t count) {
        std::vector<Value> vectors;
        for (int c = 0; c < lanes; ++c) {
          Value index = emit.add(emit.mul(emit.add(column, emit.i64(c)), emit.i64(tileQ)), row);
          vectors.push_back(c < count ? emit.load(emit.floats(), emit.at(value.memory, index)) : emit.zeros());
        }
        vectors = emit.transpose(std::move(vectors));
        for (int r = 0; r < lanes; ++r) {
          Value own = emit.add(row, emit.i64(r));
          emit.when(emit.less(own, valid), [&] {
            Value to = emit.at(out, emit.add(emit.mul(own, stride), column), element);
            emit.storeAs(type, vectors[r], to, count);
          });
        }
      };
      const int64_t whole = value.columns / lanes * lanes;
      if (whole) emit.loop(emit.i64(0), emit.i64(whole), lanes, [&](Value column) { block(column, lanes); });
      if (whole < value.columns) block(emit.i64(whole), value.columns - whole);
    });
  }

  void emitStoreRows(tile::StoreRowsOp op) {
    Buffer &value = buffer(op.getValue());
    Value first = emit.mul(scalar(op.getIndex()), emit.i64(tileQ));
    Value valid = emit.sub(slots.dim("T"), first);
    const std::string name = op.getTensor().str();
    Value out = slots.row(name, scalar(op.getBatch()), scalar(op.getHead()), first);
    emit.loop(emit.i64(0), emit.i64(tileQ), options.machine.lanes, [&](Value lane) {
      Value part = emit.load(emit.floats(), emit.at(value.memory, lane));
      mlir::LLVM::MaskedStoreOp::create(builder, emit.loc, part, emit.at(out, lane),
                                        emit.firstLanes(emit.sub(valid, lane)), 4);
    });
  }
};

}  // namespace
}  // namespace weft::cpu

namespace weft {

#define GEN_PASS_DEF_LOWERTOCPU
#include "compiler/Passes.h.inc"

namespace {

struct LowerToCpu : impl::LowerToCpuBase<LowerToCpu> {
  using LowerToCpuBase::LowerToCpuBase;

  void runOnOperation() override {
    mlir::ModuleOp module = getOperation();
    const bool lowered = attempt(module, [&] {
      for (auto kernel : llvm::make_early_inc_range(module.getOps<tile::KernelOp>())) {
        cpu::KernelLowering(module, kernel, options()).run();
        kernel.erase();
      }
    });
    if (!lowered) return signalPassFailure();
  }

 private:
  cpu::LowerOptions options() { return {cpu::machineOf(cpu), blockRows}; }
};

}  // namespace
}  // namespace weft
