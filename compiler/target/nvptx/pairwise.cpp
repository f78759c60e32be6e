// A scalar program at each pair of a tile: what a thread does for the pairs that it holds. Lines are the tile's first
// dim, queries or, transposed, keys: a thread holds parts of two lines of each 16, and of each 8 columns two.
#include "compiler/dims.h"
#include "compiler/target/nvptx/kernel_code.h"

namespace weft::nvptx {
namespace {

namespace arith = mlir::arith;
using target::RegionContext;
using target::ScalarRegion;

bool isMax(tile::PairwiseOp op, size_t reduction) { return op.reduction(reduction) == tile::Reduction::Max; }

/// One pass over the pairs: with masks and bounds, or, of a full tile, without.
class Pass {
 public:
  Pass(KernelCode &code, tile::PairwiseOp op, bool full)
      : code(code),
        emit(code.emit),
        op(op),
        full(full),
        body(op.getBody().front()),
        results(mlir::cast<tile::ResultOp>(body.getTerminator()).getValues()),
        transposed(op.getTransposed()),
        lines(transposed ? code.tileK : code.tileQ),
        blocks(code.thread.blocks(lines)),
        wide((transposed ? code.tileQ : code.tileK) / 8),
        keyDim(op.getKeyDim().str()),
        numbers(op.getRows().size(), Registers(wide * 2)) {
    body.walk([&](dialect::AccumulateOp sum) { sums.push_back(sum); });
    internalCheck(!transposed || llvm::all_of(sums, perRow), "nvptx lowering",
                  "sums over queries whose lines are keys");
    rowSums.assign(sums.size(), Registers(blocks * 2));
    columnSums.assign(sums.size(), Registers(wide * 2));
    for (size_t at = 0; at < results.size(); ++at)
      out.emplace_back(at < op.tileResults() ? blocks * wide * 4 : blocks * 2);
    firstQuery = emit.mul(code.scalar(op.getQuery()), emit.i64(code.tileQ));
    firstKey = emit.mul(code.scalar(op.getKey()), emit.i64(code.tileK));
    context = {code.scalar(op.getBatch()), code.scalar(op.getHead()), Value(), Value(), Value(), full, full, keyDim};
  }

  /// The values of all results, one after another.
  Registers run() {
    for (int64_t block = 0; block < blocks; ++block)
      for (int64_t n = 0; n < wide; ++n)
        for (int e = 0; e < 4; ++e) emitPair(block, n, e);
    // Once: a store between pairs would keep the loads of one behind those of the other.
    if (outside) target::noteOutside(emit, code.slots, outside);
    const size_t tiles = op.tileResults();
    for (size_t at = 0; at < op.getReductions().size(); ++at)
      if (isMax(op, at) || !op.getParts())
        for (Value &value : out[tiles + at]) value = code.thread.reduceRow(value, isMax(op, at));
    for (auto [which, sum] : llvm::enumerate(sums)) addSums(which, sum);
    Registers all;
    for (auto [result, values] : llvm::zip(op.getResults(), out)) {
      if (!KernelCode::isPacked(result)) {
        llvm::append_range(all, values);
        continue;
      }
      const mlir::Type element = KernelCode::packedType(result);
      for (size_t at = 0; at < values.size(); at += 2) all.push_back(code.pack(element, values[at], values[at + 1]));
    }
    return all;
  }

 private:
  KernelCode &code;
  Emitter &emit;
  tile::PairwiseOp op;
  const bool full;
  mlir::Block &body;
  const mlir::ValueRange results;
  const bool transposed;
  const int64_t lines, blocks, wide;
  const std::string keyDim;
  std::vector<Registers> numbers;  ///< of queries that are columns, once they have been read
  std::vector<dialect::AccumulateOp> sums;
  std::vector<Registers> out, rowSums, columnSums;
  Value firstQuery, firstKey;
  Value outside;  ///< i1: a pair has read outside a tensor
  RegionContext context;

  void addTo(Value &sum, Value value) {
    sum = sum ? Value(arith::AddFOp::create(code.builder, emit.loc, sum, value)) : value;
  }

  /// The number of a query: of a line, or, transposed, of column `e` of the 8 columns `n`.
  Value number(size_t which, int64_t line, int64_t n, int e) {
    if (!transposed) return code.registersOf(op.getRows()[which])[line];
    Value *own = &numbers[which][n * 2];
    if (!own[0]) {
      // Two neighbours at once.
      const mlir::Type f32 = code.builder.getF32Type(), pair = mlir::VectorType::get({2}, f32);
      Value base = code.buffer(op.getRows()[which]).base;
      Value two = emit.load(pair, emit.at(base, emit.toI32(code.thread.column(n, 0)), f32), 8);
      for (int at = 0; at < 2; ++at)
        own[at] = mlir::LLVM::ExtractElementOp::create(code.builder, emit.loc, two, emit.i32(at));
    }
    return own[e % 2];
  }

  /// Element `e` of the 8 columns `n` of a block.
  void emitPair(int64_t block, int64_t n, int e) {
    target::KernelArguments &slots = code.slots;
    const int64_t element = (block * wide + n) * 4 + e, row = block * 2 + e / 2;
    Value line = code.thread.row(block, e / 2), column = code.thread.column(n, e);
    context.i = emit.add(firstQuery, transposed ? column : line);
    Value key = emit.add(firstKey, transposed ? line : column), exists;
    context.j = key;
    if (slots.listed(keyDim)) std::tie(context.j, exists) = code.keyAt(key);
    if (!full) context.inBounds = code.both(code.isRow(context.i), code.below(key, slots.keyExtent(keyDim)));
    if (!full && exists) context.inBounds = code.both(context.inBounds, exists);
    ScalarRegion region(emit, slots, context);
    region.onOuter = [&](Value value) { return code.plan.plain(value); };
    region.onOutside = [&](Value condition) {
      outside = outside ? Value(arith::OrIOp::create(code.builder, emit.loc, outside, condition)) : condition;
    };
    unsigned argument = 0;
    region.bindCoordinate(body.getArgument(argument++), ScalarRegion::Coordinate::I);
    region.bindCoordinate(body.getArgument(argument++), ScalarRegion::Coordinate::J);
    region.bindCoordinate(op.getBatch(), ScalarRegion::Coordinate::B);
    region.bindCoordinate(op.getHead(), ScalarRegion::Coordinate::H);
    for (Value tile : op.getTiles()) region.bind(body.getArgument(argument++), code.registersOf(tile)[element]);
    for (size_t at = 0; at < op.getRows().size(); ++at)
      region.bind(body.getArgument(argument++), number(at, row, n, e));
    region.onAccumulate = [&](dialect::AccumulateOp sum, Value value) {
      const size_t which = llvm::find(sums, sum) - sums.begin();
      if (transposed)
        addTo(sum.getPer() == dialect::Dependence::Head ? rowSums[which][0] : columnSums[which][n * 2 + e % 2], value);
      else if (perRow(sum)) addTo(rowSums[which][row], value);
      else if (sum.getPer() == dialect::Dependence::Key && !slots.headRows())
        addTo(columnSums[which][n * 2 + e % 2], value);
      else scatter(region, sum, value);
    };
    region.emitBlock(body);
    for (size_t at = 0; at < results.size(); ++at) {
      Value value = region.result(results[at]);
      if (at < op.tileResults()) {
        out[at][element] = value;
        continue;
      }
      Value &slot = out[at][row];
      if (!slot) slot = value;
      else if (isMax(op, at - op.tileResults())) slot = arith::MaxNumFOp::create(code.builder, emit.loc, slot, value);
      else addTo(slot, value);
    }
  }

  static bool perRow(dialect::AccumulateOp sum) {
    return sum.getPer() == dialect::Dependence::Head || sum.getPer() == dialect::Dependence::Query;
  }

  void addSums(size_t which, dialect::AccumulateOp sum) {
    if (transposed && sum.getPer() == dialect::Dependence::Head) addOfWarp(sum, rowSums[which][0]);
    else if (transposed)
      for (int64_t at = 0; at < wide * 2; ++at)
        addToColumn(sum, code.thread.addColumn(columnSums[which][at]),
                    emit.add(firstQuery, code.thread.column(at / 2, static_cast<int>(at % 2))), "T");
    else if (perRow(sum))
      code.eachRow(code.tileQ, [&](int64_t block, int half, Value row) {
        Value value = code.thread.reduceRow(rowSums[which][block * 2 + half], false);
        code.addToRow(sum, value, context, emit.add(firstQuery, row));
      });
    else if (sum.getPer() == dialect::Dependence::Key && !code.slots.headRows())
      for (int64_t at = 0; at < wide * 2; ++at) addToKey(sum, columnSums[which][at], at);
  }

  /// The sum of a column of keys; of listed ones to the key that stands there.
  void addToKey(dialect::AccumulateOp sum, Value value, int64_t column) {
    value = code.thread.addColumn(value);
    Value place = emit.add(firstKey, code.thread.column(column / 2, static_cast<int>(column % 2)));
    if (!code.slots.listed(keyDim)) return addToColumn(sum, value, place, keyDim);
    auto [key, exists] = code.keyAt(place);
    addToColumn(sum, value, key, keyDim, code.both(exists, code.below(place, code.slots.keyExtent(keyDim))));
  }

  /// partial[b, h, column] += value; several warps meet there.
  void addToColumn(dialect::AccumulateOp sum, Value value, Value column, const std::string &dim, Value exists = {}) {
    if (!exists) exists = emit.less(column, code.slots.dim(dim));
    emit.when(code.both(code.thread.isFirstOfColumn(), exists), [&] {
      Value index = emit.add(emit.mul(code.headRow(context), code.slots.dim(dim)), column);
      code.atomicAdd(emit.at(code.slots.pointer(sum.getInput().str()), index), value);
    });
  }

  /// A head's sums are those of its queries together: of all pairs at the first.
  void addOfWarp(dialect::AccumulateOp sum, Value value) {
    value = code.thread.addColumn(code.thread.reduceRow(value, false));
    emit.when(code.both(code.thread.isFirstOfRow(), code.thread.isFirstOfColumn()), [&] {
      Value index = emit.add(emit.mul(code.headRow(context), code.slots.dim("T")), firstQuery);
      code.atomicAdd(emit.at(code.slots.pointer(sum.getInput().str()), index), value);
    });
  }

  void scatter(ScalarRegion &region, dialect::AccumulateOp sum, Value value) {
    const std::string name = sum.getInput().str();
    const target::TensorInfo &info = code.slots.info(name);
    std::vector<Value> indices = region.safeIndices(sum.getInput(), sum.getIndices());
    Value offset = code.headRow(context);
    for (auto [index, dim] : llvm::zip(indices, info.dims))
      if (!isLeadingDim(dim)) offset = emit.add(emit.mul(offset, code.slots.dim(dim)), emit.toI64(index));
    Value matters = arith::CmpFOp::create(code.builder, emit.loc, arith::CmpFPredicate::UNE, value, emit.constantF(0));
    emit.when(matters, [&] { code.atomicAdd(emit.at(code.slots.pointer(name), offset), value); });
  }
};

}  // namespace

void lower(KernelCode &code, tile::PairwiseOp op) {
  bool masks = false;
  op.getBody().walk([&](mlir::Operation *inner) { masks |= mlir::isa<dialect::MaskOp, dialect::AccumulateOp>(inner); });
  auto pass = [&](bool full) { return code.thread.withOwnCoordinates([&] { return Pass(code, op, full).run(); }); };
  Registers values;
  if (!masks) {
    values = pass(true);
  } else {
    std::vector<mlir::Type> types;
    for (Value result : op.getResults())
      types.resize(types.size() + code.count(result),
                   KernelCode::isPacked(result) ? mlir::Type(code.builder.getI32Type()) : code.builder.getF32Type());
    auto branch = mlir::scf::IfOp::create(code.builder, code.emit.loc, types, code.scalar(op.getFull()), true);
    mlir::OpBuilder::InsertionGuard guard(code.builder);
    for (bool full : {true, false}) {
      code.builder.setInsertionPointToStart(full ? branch.thenBlock() : branch.elseBlock());
      mlir::scf::YieldOp::create(code.builder, code.emit.loc, pass(full));
    }
    values.assign(branch.getResults().begin(), branch.getResults().end());
  }
  code.spread(op.getResults(), values);
}

}  // namespace weft::nvptx
