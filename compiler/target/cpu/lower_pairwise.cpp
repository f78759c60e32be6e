// A scalar program at each pair of a tile: queries in the lanes of a register, keys one after another.
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
  Value row = emit.add(emit.mul(context.batch, code.slots.dim("H")), context.head);
  auto addTo = [&](Value index, Value part) {
    Value pointer = emit.at(code.slots.pointer(name), index);
    Value old = emit.load(code.builder.getF32Type(), pointer);
    emit.store(arith::AddFOp::create(code.builder, emit.loc, old, part), pointer);
  };
  if (!mlir::isa<mlir::VectorType>(value.getType())) value = emit.splat(value);
  if (sum.getPer() == dialect::Dependence::Key) {
    Value part = vector::ReductionOp::create(code.builder, emit.loc, vector::CombiningKind::ADD, value);
    return addTo(emit.add(emit.mul(row, code.slots.dim(context.keyDim)), context.j), part);
  }
  const target::TensorInfo &info = code.slots.info(sum.getInput().str());
  std::vector<Value> indices = region.safeIndices(sum.getInput(), sum.getIndices());
  size_t leading = 0;
  while (leading < info.dims.size() &&
         (info.dims[leading] == "B" || info.dims[leading] == "H" || info.dims[leading] == "G"))
    ++leading;
  Value offset = emit.splat(row);
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

void lowerPass(KernelCode &code, tile::PairwiseOp op, RegionContext context, Value firstKey, Value keys) {
  Emitter &emit = code.emit;
  mlir::Block &body = op.getBody().front();
  auto results = mlir::cast<tile::ResultOp>(body.getTerminator()).getValues();
  std::vector<dialect::AccumulateOp> carriedSums;  // per head and per query: one vector each
  body.walk([&](dialect::AccumulateOp sum) {
    if (sum.getPer() == dialect::Dependence::Head || sum.getPer() == dialect::Dependence::Query)
      carriedSums.push_back(sum);
  });
  const size_t tiles = op.tileResults(), reductions = op.getReductions().size();
  Value firstQuery = context.i;
  const int lanes = emit.machine.lanes;
  const int group = vectorsTogether(code, body);
  Value total = code.slots.dim("T");
  emit.loop(emit.i64(0), emit.i64(code.tileQ), group * lanes, [&](Value firstLane) {
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
        rowValues[v].push_back(emit.load(emit.floats(), emit.at(code.tile(row).base, lane)));
    }
    const size_t carriedEach = reductions + carriedSums.size();
    auto element = [&](Value tile, Value j, Value lane) {
      Value index = emit.add(emit.mul(j, emit.i64(code.tileQ)), lane);
      return emit.at(code.tile(tile).base, index);
    };
    auto sums = emit.loop(emit.i64(0), keys, 1, inits, [&](Value j, mlir::ValueRange carried) {
      std::vector<Value> next(carried.begin(), carried.end());
      for (int v = 0; v < group; ++v) {
        RegionContext own = contexts[v];
        Value exists;
        own.j = emit.add(firstKey, j);
        if (code.slots.listed(own.keyDim)) std::tie(own.j, exists) = code.slots.keyAt(own.j);
        if (exists && !own.full)
          own.inBounds = arith::AndIOp::create(code.builder, emit.loc, own.inBounds, emit.splat(exists));
        ScalarRegion region(emit, code.slots, own);
        region.onOuter = [&](Value value) { return code.plan.plain(value); };
        bindPair(region, op, body, rowValues[v],
                 [&](Value tile) { return emit.load(emit.floats(), element(tile, j, laneOf[v])); });
        region.onAccumulate = [&](dialect::AccumulateOp sum, Value value) {
          auto found = llvm::find(carriedSums, sum);
          if (found == carriedSums.end()) return scatter(code, region, sum, value, own);
          Value &slot = next[v * carriedEach + reductions + (found - carriedSums.begin())];
          if (!mlir::isa<mlir::VectorType>(value.getType())) value = emit.splat(value);
          slot = arith::AddFOp::create(code.builder, emit.loc, slot, value);
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
            Value more = arith::CmpFOp::create(code.builder, emit.loc, arith::CmpFPredicate::OGT, value, slot);
            slot = arith::SelectOp::create(code.builder, emit.loc, more, value, slot);
          } else {
            slot = arith::AddFOp::create(code.builder, emit.loc, slot, value);
          }
        }
      }
      return next;
    });
    for (int v = 0; v < group; ++v) {
      for (size_t at = 0; at < reductions; ++at)
        emit.store(sums[v * carriedEach + at], emit.at(code.tile(op.getResult(tiles + at)).base, laneOf[v]));
      for (size_t at = 0; at < carriedSums.size(); ++at)
        code.addToRow(carriedSums[at], sums[v * carriedEach + reductions + at], contexts[v]);
    }
  });
}

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
    lowerPass(code, op, {batch, head, first, Value(), Value(), full, true, op.getKeyDim().str()}, firstKey, keys);
  };
  if (!anyMask && !accumulates) pass(true);
  else emit.choose(code.scalar(op.getFull()), [&] { pass(true); }, [&] { pass(false); });
}

}  // namespace weft::cpu
