// What is done query by query.
#include "compiler/target/cpu/kernel_code.h"

namespace weft::cpu {

using target::RegionContext;
using target::ScalarRegion;

void lower(KernelCode &code, tile::FillOp op) {
  Emitter &emit = code.emit;
  const Tile result{code.place(op->getResult(0))};
  auto attr = op.getValue().getDefiningOp<arith::ConstantOp>();
  internalCheck(attr != nullptr, "cpu lowering", "fill with a value that is no constant");
  Value value = emit.splat(emit.constantF(mlir::cast<mlir::FloatAttr>(attr.getValue()).getValueAsDouble()));
  emit.loop(emit.i64(0), emit.i64(op.getResult().getType().getNumElements()), emit.machine.lanes,
            [&](Value index) { emit.store(value, emit.at(result.base, index)); });
  code.tiles[op.getResult()] = result;
}

void lower(KernelCode &code, tile::ScaleOp op) {
  Emitter &emit = code.emit;
  const Tile tile = code.tile(op.getTile());
  Value factor = emit.splat(emit.constantF(op.getFactor().convertToDouble()));
  emit.loop(emit.i64(0), emit.i64(op.getTile().getType().getNumElements()), emit.machine.lanes, [&](Value index) {
    Value pointer = emit.at(tile.base, index);
    Value value = emit.load(emit.floats(), pointer);
    emit.store(arith::MulFOp::create(code.builder, emit.loc, value, factor), pointer);
  });
  code.tiles[op.getResult()] = tile;
}

void lower(KernelCode &code, tile::ScaleRowsOp op) {
  internalCheck(layoutOf(op.getTile().getType()) == Layout::Columns, "cpu lowering", "rows of keys have no factors");
  Emitter &emit = code.emit;
  const Tile tile = code.tile(op.getTile());
  const int64_t columns = KernelCode::shapeOf(op.getTile())[1];
  Tile &factors = code.tile(op.getFactors());
  emit.loop(emit.i64(0), emit.i64(code.tileQ), emit.machine.lanes, [&](Value lane) {
    Value factor = emit.load(emit.floats(), emit.at(factors.base, lane));
    Value one = emit.splat(emit.constantF(1));
    Value differs = arith::CmpFOp::create(code.builder, emit.loc, arith::CmpFPredicate::UNE, factor, one);
    Value any = vector::ReductionOp::create(code.builder, emit.loc, vector::CombiningKind::OR, differs);
    emit.when(any, [&] {
      emit.loop(emit.i64(0), emit.i64(columns), 1, [&](Value column) {
        Value pointer = emit.at(tile.base, emit.add(emit.mul(column, emit.i64(code.tileQ)), lane));
        Value value = emit.load(emit.floats(), pointer);
        emit.store(arith::MulFOp::create(code.builder, emit.loc, value, factor), pointer);
      });
    });
  });
  code.tiles[op.getResult()] = tile;
}

void lower(KernelCode &code, tile::ScanSumOp op) {
  Emitter &emit = code.emit;
  const Tile own = code.tile(op.getTile()), sums{code.place(op->getResult(0))}, totals{code.place(op->getResult(1))};
  Value keys = emit.min(emit.sub(code.slots.dim("S"), emit.mul(code.scalar(op.getKey()), emit.i64(code.tileK))),
                        emit.i64(code.tileK));
  Value last = emit.sub(keys, emit.i64(1));
  emit.loop(emit.i64(0), emit.i64(code.tileQ), emit.machine.lanes, [&](Value lane) {
    Value total =
        emit.loop(emit.i64(0), keys, 1, mlir::ValueRange{emit.zeros()}, [&](Value turn, mlir::ValueRange carried) {
          Value key = op.getSide() == tile::ScanSide::After ? emit.sub(last, turn) : turn;
          Value index = emit.add(emit.mul(key, emit.i64(code.tileQ)), lane);
          Value value = emit.load(emit.floats(), emit.at(own.base, index));
          emit.store(carried[0], emit.at(sums.base, index));
          return std::vector<Value>{arith::AddFOp::create(code.builder, emit.loc, carried[0], value)};
        })[0];
    emit.store(total, emit.at(totals.base, lane));
  });
  code.tiles[op.getSums()] = sums;
  code.tiles[op.getTotals()] = totals;
}

void lower(KernelCode &code, tile::RowwiseOp op) {
  Emitter &emit = code.emit;
  mlir::Block &body = op.getBody().front();
  auto results = mlir::cast<tile::ResultOp>(body.getTerminator()).getValues();
  for (mlir::OpResult result : op->getResults()) code.tiles[result] = {code.place(result)};
  Value first = emit.mul(code.scalar(op.getQuery()), emit.i64(code.tileQ));
  emit.loop(emit.i64(0), emit.i64(code.tileQ), emit.machine.lanes, [&](Value lane) {
    RegionContext context{
        code.scalar(op.getBatch()), code.scalar(op.getHead()), emit.add(first, lane), Value(), Value(), false};
    context.inBounds = emit.firstLanes(emit.sub(code.slots.rows(), context.i));
    ScalarRegion region(emit, code.slots, context);
    region.onOuter = [&](Value value) { return code.plan.plain(value); };
    region.bindCoordinate(body.getArgument(0), ScalarRegion::Coordinate::I);
    region.bindCoordinate(op.getBatch(), ScalarRegion::Coordinate::B);
    region.bindCoordinate(op.getHead(), ScalarRegion::Coordinate::H);
    for (auto [at, row] : llvm::enumerate(op.getRows()))
      region.bind(body.getArgument(at + 1), emit.load(emit.floats(), emit.at(code.tile(row).base, lane)));
    region.onAccumulate = [&](dialect::AccumulateOp sum, Value value) {
      if (!mlir::isa<mlir::VectorType>(value.getType())) value = emit.splat(value);
      code.addToRow(sum, value, context);
    };
    region.emitBlock(body);
    for (auto [at, value] : llvm::enumerate(results))
      emit.store(region.result(value), emit.at(code.tile(op.getResult(at)).base, lane));
  });
}

void lower(KernelCode &code, tile::RowDotOp op) {
  Emitter &emit = code.emit;
  const Tile lhs = code.tile(op.getLhs()), rhs = code.tile(op.getRhs()), result{code.place(op->getResult(0))};
  const int64_t columns = KernelCode::shapeOf(op.getLhs())[1];
  emit.loop(emit.i64(0), emit.i64(code.tileQ), emit.machine.lanes,
            [&](Value lane) { emit.store(emit.zeros(), emit.at(result.base, lane)); });
  emit.loop(emit.i64(0), lhs.valid, 1, [&](Value row) {
    Value left = emit.at(lhs.base, emit.mul(row, lhs.stride));
    Value right = emit.at(rhs.base, emit.mul(row, rhs.stride));
    // In f64: what is left of do . v once this is taken off can be small.
    mlir::Type wide = emit.vectorOf(code.builder.getF64Type());
    Value sum = arith::ConstantOp::create(code.builder, emit.loc, code.builder.getZeroAttr(wide));
    for (int64_t c = 0; c < columns; c += emit.machine.lanes) {
      auto part = [&](Value row) {
        Value own = emit.loadLanes(emit.at(row, emit.i64(c)), columns - c);
        return own.getType() == wide ? own : Value(arith::ExtFOp::create(code.builder, emit.loc, wide, own));
      };
      Value x = part(left), y = part(right);
      sum = vector::FMAOp::create(code.builder, emit.loc, x, y, sum);
    }
    Value total = vector::ReductionOp::create(code.builder, emit.loc, vector::CombiningKind::ADD, sum);
    if (total.getType() != emit.real()) total = arith::TruncFOp::create(code.builder, emit.loc, emit.real(), total);
    emit.store(total, emit.at(result.base, row));
  });
  code.tiles[op.getResult()] = result;
}

}  // namespace weft::cpu
