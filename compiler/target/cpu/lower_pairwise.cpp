// A scalar program at each pair of a tile: queries in the lanes of a register, keys one after another.
#include "compiler/dims.h"
#include "compiler/target/cpu/kernel_code.h"

#include <limits>

namespace weft::cpu {

namespace {

using target::RegionContext;
using target::ScalarRegion;

/// How many vectors of queries a pairwise pass takes at once: as many as its values leave registers for.
int vectorsTogether(KernelCode &code, mlir::Block &body) {
  const size_t size = body.getOperations().size();
  int group = size <= 24 ? 4 : size <= 48 ? 2 : 1;
  if (code.emit.machine.registers < 32) group = std::max(1, group / 2);
  while (code.tileQ / code.emit.machine.lanes % group) group /= 2;
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

/// Adds to partial[b, h, j] (a sum over the lanes) or to scattered elements partial[b, h, ...].
void scatter(KernelCode &code, ScalarRegion &region, dialect::AccumulateOp sum, Value value,
             const RegionContext &context) {
  Emitter &emit = code.emit;
  const std::string name = sum.getInput().str();
  Value row = code.slots.rowNumber(context.batch, context.head, context.i);
  mlir::Type type = emit.storage(code.slots.info(name).element);  // f64 where many pairs meet
  auto addTo = [&](Value index, Value part) {
    Value pointer = emit.at(code.slots.pointer(name), index, type);
    Value old = emit.load(type, pointer);
    if (part.getType() != type) part = arith::ExtFOp::create(code.builder, emit.loc, type, part);
    emit.store(arith::AddFOp::create(code.builder, emit.loc, old, part), pointer);
  };
  if (!mlir::isa<mlir::VectorType>(value.getType())) value = emit.splat(value);
  if (sum.getPer() == dialect::Dependence::Key && !code.slots.headRows()) {
    Value part = vector::ReductionOp::create(code.builder, emit.loc, vector::CombiningKind::ADD, value);
    return addTo(emit.add(emit.mul(row, code.slots.dim(context.keyDim)), context.j), part);
  }
  const target::TensorInfo &info = code.slots.info(sum.getInput().str());
  std::vector<Value> indices = region.safeIndices(sum.getInput(), sum.getIndices());
  size_t leading = 0;
  while (leading < info.dims.size() && isLeadingDim(info.dims[leading])) ++leading;
  Value offset = emit.splat(row);
  // Lanes past the last row add nothing: to this one, for others are other threads'.
  if (code.slots.headRows()) {
    mlir::Type wide = emit.vectorOf(code.builder.getI64Type());
    Value last = code.slots.rowNumber(context.batch, context.head, emit.sub(code.slots.rows(), emit.i64(1)));
    offset = emit.add(offset, arith::ExtSIOp::create(code.builder, emit.loc, wide, emit.iota()));
    offset = emit.min(offset, emit.splat(last));
  }
  for (size_t at = leading; at < indices.size(); ++at) {
    Value index = indices[at];
    if (!mlir::isa<mlir::VectorType>(index.getType())) index = emit.splat(index);
    Value wide = arith::ExtSIOp::create(code.builder, emit.loc, emit.vectorOf(code.builder.getI64Type()), index);
    offset = emit.add(emit.mul(offset, emit.splat(code.slots.dim(info.dims[at]))), wide);
  }
  for (int lane = 0; lane < emit.machine.lanes; ++lane)
    addTo(vector::ExtractOp::create(code.builder, emit.loc, offset, static_cast<int64_t>(lane)),
          vector::ExtractOp::create(code.builder, emit.loc, value, static_cast<int64_t>(lane)));
}

/// One pass over the pairs: with masks and bounds, or, of a full tile, without.
class Pass {
 public:
  /// `context`: of the tile's first query.
  Pass(KernelCode &code, tile::PairwiseOp op, const RegionContext &context, Value firstKey, Value keys)
      : code(code),
        emit(code.emit),
        op(op),
        context(context),
        firstKey(firstKey),
        keys(keys),
        body(op.getBody().front()),
        results(mlir::cast<tile::ResultOp>(body.getTerminator()).getValues()),
        tiles(op.tileResults()),
        reductions(op.getReductions().size()),
        together(vectorsTogether(code, body)) {
    body.walk([&](dialect::AccumulateOp sum) {
      if (sum.getPer() == dialect::Dependence::Head || sum.getPer() == dialect::Dependence::Query)
        carriedSums.push_back(sum);
    });
  }

  void run() {
    total = code.slots.rows();
    emit.loop(emit.i64(0), emit.i64(code.tileQ), together * emit.machine.lanes, [&](Value firstLane) {
      const Group group = begin(firstLane);
      auto from = [&](Value first, Value end, mlir::ValueRange inits) {
        return emit.loop(first, end, 1, inits, [&](Value j, mlir::ValueRange carried) {
          std::vector<Value> next(carried.begin(), carried.end());
          for (int v = 0; v < together; ++v) emitPair(group, v, j, next);
          return next;
        });
      };
      auto sums = !code.usesAmx
                      ? from(emit.i64(0), keys, group.inits)
                      : emit.loop(emit.i64(0), keys, stretch, group.inits, [&](Value first, mlir::ValueRange carried) {
                          code.stayAwake();
                          return from(first, emit.min(emit.add(first, emit.i64(stretch)), keys), carried);
                        });
      finish(group, sums);
    });
  }

 private:
  static constexpr int64_t stretch = 32;  ///< keys between two calls of Amx::stayAwake
  /// Vectors of queries that go through the keys side by side: their sums are independent chains.
  struct Group {
    std::vector<Value> inits;                   ///< of what the loop over keys carries, for each vector
    std::vector<Value> lanes;                   ///< a vector's first query, in the tile
    std::vector<RegionContext> contexts;        ///< the same for the scalar region
    std::vector<std::vector<Value>> rowValues;  ///< of each vector
  };

  KernelCode &code;
  Emitter &emit;
  tile::PairwiseOp op;
  const RegionContext context;
  const Value firstKey, keys;
  mlir::Block &body;
  const mlir::ValueRange results;
  const size_t tiles, reductions;
  const int together;
  std::vector<dialect::AccumulateOp> carriedSums;  ///< per head and per query: one vector each
  Value total;                                     ///< of rows, i64

  /// Of a vector in what the loop carries: its reductions, then its sums.
  size_t carriedAt(int v) const { return v * (reductions + carriedSums.size()); }
  bool isMax(size_t reduction) { return op.reduction(reduction) == tile::Reduction::Max; }
  Value place(Value tile, Value j, Value lane) {
    Value index = emit.add(emit.mul(j, emit.i64(code.tileQ)), lane);
    return emit.at(code.tile(tile).base, index);
  }

  Group begin(Value firstLane) {
    Group group;
    group.rowValues.resize(together);
    for (int v = 0; v < together; ++v) {
      Value lane = group.lanes.emplace_back(emit.add(firstLane, emit.i64(v * emit.machine.lanes)));
      RegionContext &own = group.contexts.emplace_back(context);
      own.i = emit.add(context.i, lane);
      if (!own.full) own.inBounds = emit.firstLanes(emit.sub(total, own.i));
      for (size_t at = 0; at < reductions; ++at) {
        const double start = isMax(at) ? -std::numeric_limits<double>::infinity() : 0;
        group.inits.push_back(emit.splat(emit.constantF(start)));
      }
      for (size_t at = 0; at < carriedSums.size(); ++at) group.inits.push_back(emit.zeros());
      for (Value row : op.getRows())
        group.rowValues[v].push_back(emit.load(emit.floats(), emit.at(code.tile(row).base, lane)));
    }
    return group;
  }

  /// The pairs of vector `v` and key `j` of the tile; `next` is what the loop carries.
  void emitPair(const Group &group, int v, Value j, std::vector<Value> &next) {
    RegionContext own = group.contexts[v];
    Value lane = group.lanes[v], exists;
    own.j = emit.add(firstKey, j);
    if (code.slots.listed(own.keyDim)) std::tie(own.j, exists) = code.slots.keyAt(own.j);
    if (exists && !own.full)
      own.inBounds = arith::AndIOp::create(code.builder, emit.loc, own.inBounds, emit.splat(exists));
    ScalarRegion region(emit, code.slots, own);
    region.onOuter = [&](Value value) { return code.plan.plain(value); };
    bindPair(region, op, body, group.rowValues[v],
             [&](Value tile) { return emit.load(emit.floats(), place(tile, j, lane)); });
    region.onAccumulate = [&](dialect::AccumulateOp sum, Value value) {
      auto found = llvm::find(carriedSums, sum);
      if (found == carriedSums.end()) return scatter(code, region, sum, value, own);
      Value &slot = next[carriedAt(v) + reductions + (found - carriedSums.begin())];
      if (!mlir::isa<mlir::VectorType>(value.getType())) value = emit.splat(value);
      slot = arith::AddFOp::create(code.builder, emit.loc, slot, value);
    };
    region.emitBlock(body);
    for (size_t at = 0; at < results.size(); ++at) {
      Value value = region.result(results[at]);
      if (at < tiles) emit.store(value, place(op.getResult(at), j, lane));
      else reduce(next[carriedAt(v) + at - tiles], value, isMax(at - tiles));
    }
  }

  void reduce(Value &slot, Value value, bool max) {
    if (!max) {
      slot = arith::AddFOp::create(code.builder, emit.loc, slot, value);
      return;
    }
    // One vmaxps. A NaN may pass by: the row's sum of exponentials will show it.
    Value more = arith::CmpFOp::create(code.builder, emit.loc, arith::CmpFPredicate::OGT, value, slot);
    slot = arith::SelectOp::create(code.builder, emit.loc, more, value, slot);
  }

  void finish(const Group &group, llvm::ArrayRef<Value> sums) {
    for (int v = 0; v < together; ++v) {
      for (size_t at = 0; at < reductions; ++at)
        emit.store(sums[carriedAt(v) + at], emit.at(code.tile(op.getResult(tiles + at)).base, group.lanes[v]));
      for (size_t at = 0; at < carriedSums.size(); ++at)
        code.addToRow(carriedSums[at], sums[carriedAt(v) + reductions + at], group.contexts[v]);
    }
  }
};

}  // namespace

void lower(KernelCode &code, tile::PairwiseOp op) {
  Emitter &emit = code.emit;
  for (mlir::OpResult result : op->getResults()) code.tiles[result] = {code.place(result)};
  Value batch = code.scalar(op.getBatch()), head = code.scalar(op.getHead());
  Value first = emit.mul(code.scalar(op.getQuery()), emit.i64(code.tileQ));
  Value firstKey = emit.mul(code.scalar(op.getKey()), emit.i64(code.tileK));
  Value keys =
      emit.min(emit.sub(code.slots.dim(code.slots.keyExtent(op.getKeyDim().str())), firstKey), emit.i64(code.tileK));
  bool anyMask = false;
  op.getBody().walk([&](dialect::MaskOp) { anyMask = true; });
  bool accumulates = false;
  op.getBody().walk([&](dialect::AccumulateOp) { accumulates = true; });
  auto pass = [&](bool full) {
    const RegionContext context{batch, head, first, Value(), Value(), full, true, op.getKeyDim().str()};
    Pass(code, op, context, firstKey, keys).run();
  };
  if (!anyMask && !accumulates) pass(true);
  else emit.choose(code.scalar(op.getFull()), [&] { pass(true); }, [&] { pass(false); });
}

}  // namespace weft::cpu
