// What is done row by row: constants, numbers of rows, running sums, scalar programs of a row.
#include "compiler/target/nvptx/kernel_code.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

namespace weft::nvptx {

namespace arith = mlir::arith;
using target::RegionContext;
using target::ScalarRegion;

void lower(KernelCode &code, tile::FillOp op) {
  auto attr = op.getValue().getDefiningOp<arith::ConstantOp>();
  internalCheck(attr != nullptr, "nvptx lowering", "fill with a value that is no constant");
  Value value = code.emit.constantF(mlir::cast<mlir::FloatAttr>(attr.getValue()).getValue().convertToFloat());
  code.registers[op.getResult()] = Registers(code.count(op.getType()), value);
}

void lower(KernelCode &code, tile::LoadRowsOp op) {
  Emitter &emit = code.emit;
  Value first = emit.mul(code.scalar(op.getIndex()), emit.i64(code.tileQ));
  Value source = code.slots.row(op.getTensor().str(), code.scalar(op.getBatch()), code.scalar(op.getHead()), first);
  Value valid = emit.sub(code.slots.rows(), first);
  Value fill = emit.constantF(op.getFill().convertToFloat());
  Registers result;
  code.eachRow(code.tileQ, [&](int64_t, int, Value row) {
    Value inside = emit.less(row, valid);
    Value value =
        emit.load(code.builder.getF32Type(), emit.at(source, code.numberAt(code.select(inside, row, emit.i64(0)))));
    result.push_back(code.select(inside, value, fill));
  });
  code.registers[op.getResult()] = std::move(result);
}

void lower(KernelCode &code, tile::ScaleOp op) {
  Registers result = code.registersOf(op.getTile());
  Value factor = code.emit.constantF(op.getFactor().convertToDouble());
  for (Value &value : result) value = arith::MulFOp::create(code.builder, code.emit.loc, value, factor);
  code.registers[op.getResult()] = std::move(result);
}

/// True in all lanes of a warp of which one has a row that is so.
static Value anyOf(KernelCode &code, llvm::ArrayRef<Value> rows, llvm::function_ref<Value(Value)> is) {
  Emitter &emit = code.emit;
  Value any;
  for (Value row : rows) any = any ? Value(arith::OrIOp::create(emit.b, emit.loc, any, is(row))) : is(row);
  return mlir::NVVM::VoteSyncOp::create(emit.b, emit.loc, emit.b.getI1Type(), emit.i32(-1), any,
                                        mlir::NVVM::VoteSyncKind::any);
}

/// What registers (f32) become where `condition` is true.
static Registers seldom(KernelCode &code, Value condition, const Registers &own,
                        llvm::function_ref<Registers()> changed) {
  Emitter &emit = code.emit;
  llvm::SmallVector<mlir::Type> types(own.size(), emit.b.getF32Type());
  auto branch = mlir::scf::IfOp::create(emit.b, emit.loc, types, condition, true);
  mlir::OpBuilder::InsertionGuard guard(emit.b);
  emit.b.setInsertionPointToStart(branch.thenBlock());
  mlir::scf::YieldOp::create(emit.b, emit.loc, changed());
  emit.b.setInsertionPointToStart(branch.elseBlock());
  mlir::scf::YieldOp::create(emit.b, emit.loc, own);
  return Registers(branch.getResults().begin(), branch.getResults().end());
}

void lower(KernelCode &code, tile::ScaleRowsOp op) {
  const Registers own = code.registersOf(op.getTile());
  const Registers &factors = code.registersOf(op.getFactors());
  const size_t perBlock = KernelCode::columnTiles(KernelCode::shapeOf(op.getTile())[1]) * 4;
  auto scaled = [&] {
    Registers result;
    for (size_t at = 0; at < own.size(); ++at) {
      const size_t block = at / perBlock, half = at % 4 / 2;
      result.push_back(arith::MulFOp::create(code.builder, code.emit.loc, own[at], factors[2 * block + half]));
    }
    return result;
  };
  // In a loop they are mostly 1.
  if (!mlir::isa<mlir::LoopLikeOpInterface>(op->getParentOp())) {
    code.registers[op.getResult()] = scaled();
    return;
  }
  Emitter &emit = code.emit;
  Value any = anyOf(code, factors, [&](Value factor) {
    return arith::CmpFOp::create(emit.b, emit.loc, arith::CmpFPredicate::UNE, factor, emit.constantF(1));
  });
  code.registers[op.getResult()] = seldom(code, any, own, scaled);
}

void lower(KernelCode &code, tile::AddPartsOp op) {
  Registers sums = code.registersOf(op.getRows());
  for (Value &sum : sums) sum = code.thread.reduceRow(sum, false);
  code.registers[op.getSums()] = std::move(sums);
}

void lower(KernelCode &code, tile::BelowPeakOp op) {
  Emitter &emit = code.emit;
  Registers scores = code.registersOf(op.getScores());
  const Registers peaks = code.registersOf(op.getPeaks()), factors = code.registersOf(op.getFactors());
  const size_t perBlock = KernelCode::columnTiles(KernelCode::shapeOf(op.getScores())[1]) * 4, count = scores.size();
  Registers own = scores;
  for (auto [peak, factor] : llvm::zip(peaks, factors))
    own.push_back(arith::MulFOp::create(emit.b, emit.loc, peak, factor));
  const Registers products(own.begin() + count, own.end());
  auto isFar = [&](Value product) {
    Value size = mlir::math::AbsFOp::create(emit.b, emit.loc, product);
    return Value(arith::CmpFOp::create(emit.b, emit.loc, arith::CmpFPredicate::OGE, size, emit.constantF(0x1p10)));
  };
  Registers all = seldom(code, anyOf(code, products, isFar), own, [&] {
    Registers far, taken, result;
    for (auto [product, peak] : llvm::zip(products, peaks)) {
      far.push_back(isFar(product));
      taken.push_back(code.select(far.back(), peak, emit.constantF(0)));
    }
    for (size_t at = 0; at < count; ++at) {
      const size_t row = at / perBlock * 2 + at % 4 / 2;
      result.push_back(arith::SubFOp::create(emit.b, emit.loc, scores[at], taken[row]));
    }
    for (auto [product, is] : llvm::zip(products, far)) result.push_back(code.select(is, emit.constantF(0), product));
    return result;
  });
  code.spread(op.getResults(), all);
}

void lower(KernelCode &code, tile::ScanSumOp op) {
  Emitter &emit = code.emit;
  Thread &thread = code.thread;
  const Registers own = code.registersOf(op.getTile());
  Registers sums(own.size()), totals(code.count(op.getTotals().getType()));
  auto plus = [&](Value x, Value y) { return Value(arith::AddFOp::create(code.builder, emit.loc, x, y)); };
  // The other thread's columns lie after this one's: in a pair where this thread is even, in a half where it is one
  // of the first two. Never two tests of bits of one register: see Expander::sine.
  const bool after = op.getSide() == tile::ScanSide::After;
  Value zero = emit.constantF(0), odd = arith::AndIOp::create(code.builder, emit.loc, thread.quad, emit.i32(1));
  Value nearAfter = arith::CmpIOp::create(code.builder, emit.loc, arith::CmpIPredicate::eq, odd, emit.i32(0));
  Value farAfter = thread.withOwnCoordinates([&] { return emit.less(thread.quad, emit.i32(2)); });
  auto counted = [&](Value later, Value value) {
    return after ? code.select(later, value, zero) : code.select(later, zero, value);
  };
  const int64_t wide = code.tileK / 8, own1 = after ? 1 : 0;
  for (int64_t block = 0; block < thread.blocks(code.tileQ); ++block)
    for (int half = 0; half < 2; ++half) {
      Value carried = zero;
      for (int64_t turn = 0; turn < wide; ++turn) {
        // Four threads hold two columns each: those of the threads beyond this one, then its own farther one.
        const int64_t at = (block * wide + (after ? wide - 1 - turn : turn)) * 4 + 2 * half;
        Value pair = plus(own[at], own[at + 1]);
        Value near = thread.exchange(pair, 1), far = plus(thread.exchange(pair, 2), thread.exchange(near, 2));
        sums[at + own1] = plus(carried, plus(counted(nearAfter, near), counted(farAfter, far)));
        sums[at + 1 - own1] = plus(sums[at + own1], own[at + own1]);
        carried = plus(carried, plus(plus(pair, near), far));
      }
      totals[block * 2 + half] = carried;
    }
  code.registers[op.getSums()] = std::move(sums);
  code.registers[op.getTotals()] = std::move(totals);
}

void lower(KernelCode &code, tile::RowwiseOp op) {
  Emitter &emit = code.emit;
  mlir::Block &body = op.getBody().front();
  auto results = mlir::cast<tile::ResultOp>(body.getTerminator()).getValues();
  std::vector<Registers> out(results.size());
  Value first = emit.mul(code.scalar(op.getQuery()), emit.i64(code.tileQ));
  code.eachRow(code.tileQ, [&](int64_t block, int half, Value row) {
    RegionContext context{
        code.scalar(op.getBatch()), code.scalar(op.getHead()), emit.add(first, row), Value(), Value(), false};
    context.inBounds = code.isRow(context.i);
    ScalarRegion region(emit, code.slots, context);
    region.onOuter = [&](Value value) { return code.plan.plain(value); };
    region.bindCoordinate(body.getArgument(0), ScalarRegion::Coordinate::I);
    region.bindCoordinate(op.getBatch(), ScalarRegion::Coordinate::B);
    region.bindCoordinate(op.getHead(), ScalarRegion::Coordinate::H);
    for (auto [at, own] : llvm::enumerate(op.getRows()))
      region.bind(body.getArgument(at + 1), code.registersOf(own)[block * 2 + half]);
    region.onAccumulate = [&](dialect::AccumulateOp sum, Value value) {
      code.addToRow(sum, value, context, context.i);
    };
    region.emitBlock(body);
    for (auto [own, value] : llvm::zip(out, results)) own.push_back(region.result(value));
  });
  for (auto [result, own] : llvm::zip(op.getResults(), out)) code.registers[result] = std::move(own);
}

/// The four threads of a row take every fourth column.
void lower(KernelCode &code, cta::RowDotOp op) {
  Emitter &emit = code.emit;
  Value first = emit.mul(code.scalar(op.getIndex()), emit.i64(code.tileQ));
  struct Rows {
    ElementType type;
    Value start, stride;
  };
  Value valid;
  auto rowsOf = [&](llvm::StringRef tensor) {
    const std::string name = tensor.str();
    const target::TensorInfo &info = code.slots.info(name);
    valid = emit.sub(code.slots.extent(name), first);
    Value head = code.slots.headOf(name, code.scalar(op.getHead()));
    return Rows{info.element, code.slots.row(name, code.scalar(op.getBatch()), head, first),
                code.slots.rowStride(name)};
  };
  const Rows lhs = rowsOf(op.getLhs()), rhs = rowsOf(op.getRhs());
  Registers result;
  code.eachRow(code.tileQ, [&](int64_t, int, Value row) {
    Value safe = code.select(emit.less(row, valid), row, emit.i64(0));
    auto load = [&](const Rows &from, Value column) -> Value {
      mlir::Type element = emit.storage(from.type);
      Value index = emit.add(emit.mul(safe, from.stride), column);
      Value value = emit.load(element, emit.at(from.start, index, element), static_cast<unsigned>(bytesOf(from.type)));
      if (from.type == ElementType::F32) return value;
      return arith::ExtFOp::create(code.builder, emit.loc, code.builder.getF32Type(), value);
    };
    auto sums = emit.loop(emit.toI64(code.thread.quad), emit.i64(static_cast<int64_t>(op.getColumns())), 4,
                          mlir::ValueRange{emit.constantF(0)}, [&](Value column, mlir::ValueRange carried) {
                            return std::vector<Value>{emit.fma(load(lhs, column), load(rhs, column), carried[0])};
                          });
    result.push_back(code.thread.reduceRow(sums[0], false));
  });
  code.registers[op.getResult()] = std::move(result);
}

}  // namespace weft::nvptx
