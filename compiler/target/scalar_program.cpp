#include "compiler/target/scalar_program.h"

#include <algorithm>

#include "compiler/dims.h"
#include "compiler/internal_error.h"
#include "llvm/ADT/STLExtras.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/TypeUtilities.h"

namespace weft::target {

namespace arith = mlir::arith;

/// Values of plan kernels keep their own types; coordinates are truncated once.
Value ScalarProgram::plain(Value value) {
  auto found = scalars.find(value);
  internalCheck(found != scalars.end(), "plan lowering", "plan value without code");
  if (value.getType().isInteger(32) && found->second.getType().isInteger(64)) return emit.toI32(found->second);
  return found->second;
}

Value ScalarProgram::buffer(llvm::StringRef name) {
  return name == weft::workspace ? workspace : slots.pointer(name.str());
}

void ScalarProgram::emitOp(mlir::Operation &op) {
  if (auto dim = mlir::dyn_cast<dialect::DimOp>(op)) {
    scalars[dim.getResult()] = emit.toI32(slots.dim(dim.getDim().str()));
  } else if (auto read = mlir::dyn_cast<dialect::ReadOp>(op)) {
    scalars[read.getResult()] = planRead(read);
  } else if (auto range = mlir::dyn_cast<tile::ReadRangeOp>(op)) {
    emitReadRange(range);
  } else if (auto store = mlir::dyn_cast<tile::StoreFlatOp>(op)) {
    Value index = emit.toI64(plain(store.getIndex())), value = plain(store.getValue());
    Value to = buffer(store.getTensor());
    byOne([&] { storeFlat(value, to, index); });
  } else if (auto append = mlir::dyn_cast<tile::AppendOp>(op)) {
    scalars[append.getNext()] = emitAppend(append);
  } else if (auto pool = mlir::dyn_cast<tile::PoolRowsOp>(op)) {
    emitPoolRows(pool);
  } else if (auto dots = mlir::dyn_cast<tile::FlatDotsOp>(op)) {
    emitFlatDots(dots);
  } else if (auto load = mlir::dyn_cast<tile::LoadFlatOp>(op)) {
    Value index = emit.toI64(plain(load.getIndex()));
    scalars[load.getResult()] = loadFlat(load.getType(), buffer(load.getTensor()), index);
  } else if (auto loop = mlir::dyn_cast<mlir::scf::ForOp>(op)) {
    auto independent = loop->getAttrOfType<tile::IndependentAttr>(tile::independentTurns);
    if (lanes && !shared && independent) emitSharedLoop(loop, independent.getValue());
    else emitLoop(loop, plain(loop.getLowerBound()), plain(loop.getStep()), loopInits(loop), nullptr);
  } else if (auto branch = mlir::dyn_cast<mlir::scf::IfOp>(op)) {
    emit.when(plain(branch.getCondition()), [&] {
      for (mlir::Operation &inner : branch.thenBlock()->without_terminator()) emitOp(inner);
    });
  } else {
    mlir::IRMapping mapping;
    for (Value operand : op.getOperands()) mapping.map(operand, plain(operand));
    mlir::Operation *copy = emit.b.clone(op, mapping);
    for (auto [from, to] : llvm::zip(op.getResults(), copy->getResults())) scalars[from] = to;
  }
}

/// Of a bool as it is stored, in a byte.
Value ScalarProgram::isTrue(Value byte) {
  return arith::CmpIOp::create(emit.b, emit.loc, arith::CmpIPredicate::ne, byte,
                               arith::ConstantIntOp::create(emit.b, emit.loc, 0, 8));
}

Value ScalarProgram::loadFlat(mlir::Type type, Value from, Value index) {
  if (!type.isInteger(1)) return emit.load(type, emit.at(from, index, type));
  mlir::Type byte = emit.storage(ElementType::Bool);
  return isTrue(emit.load(byte, emit.at(from, index, byte), 1));
}

void ScalarProgram::storeFlat(Value value, Value to, Value index) {
  if (!value.getType().isInteger(1)) return emit.store(value, emit.at(to, index, value.getType()));
  mlir::Type byte = emit.storage(ElementType::Bool);
  emit.store(arith::ExtUIOp::create(emit.b, emit.loc, byte, value), emit.at(to, index, byte), 1);
}

std::vector<Value> ScalarProgram::loopInits(mlir::scf::ForOp loop) {
  std::vector<Value> inits;
  for (Value init : loop.getInitArgs()) inits.push_back(plain(init));
  return inits;
}

/// From `from` on, by `step`; `turn`, where given, makes the body's index of the loop's own.
void ScalarProgram::emitLoop(mlir::scf::ForOp loop, Value from, Value step, llvm::ArrayRef<Value> inits,
                             const std::function<Value(Value)> &turn) {
  auto copy = mlir::scf::ForOp::create(emit.b, emit.loc, from, plain(loop.getUpperBound()), step, inits);
  mlir::OpBuilder::InsertionGuard guard(emit.b);
  emit.b.setInsertionPointToStart(copy.getBody());
  for (auto [own, argument] : llvm::zip(loop.getBody()->getArguments(), copy.getBody()->getArguments()))
    scalars[own] = argument;
  if (turn) scalars[loop.getInductionVar()] = turn(copy.getInductionVar());
  for (mlir::Operation &inner : loop.getBody()->without_terminator()) emitOp(inner);
  std::vector<Value> next;
  for (Value value : loop.getBody()->getTerminator()->getOperands()) next.push_back(plain(value));
  if (!next.empty()) mlir::scf::YieldOp::create(emit.b, emit.loc, next);
  for (auto [own, result] : llvm::zip(loop.getResults(), copy.getResults())) scalars[own] = result;
}

/// Lane n takes turns n, n + 32, ...; what they carry meets at the end.
void ScalarProgram::emitSharedLoop(mlir::scf::ForOp loop, tile::Independent meeting) {
  Value from = plain(loop.getLowerBound()), step = emit.i32(Lanes::count);
  const std::vector<Value> inits = loopInits(loop);
  std::vector<Value> starts = inits;
  if (meeting == tile::Independent::Add)
    for (Value &start : starts)
      start = arith::ConstantOp::create(emit.b, emit.loc, emit.b.getZeroAttr(start.getType()));
  shared = true;
  if (meeting == tile::Independent::Append) {
    // All lanes take part in every turn: they share the list's end. Those past the last one repeat it, and append
    // nothing.
    Value last = emit.sub(plain(loop.getUpperBound()), emit.i32(1));
    emitLoop(loop, from, step, starts, [&](Value first) {
      Value index = emit.add(first, lanes->own);
      inRange = arith::CmpIOp::create(emit.b, emit.loc, arith::CmpIPredicate::sle, index, last);
      return emit.min(index, last);
    });
    inRange = Value();
  } else {
    emitLoop(loop, emit.add(from, lanes->own), step, starts, nullptr);
  }
  shared = false;
  for (auto [result, init] : llvm::zip(loop.getResults(), inits)) {
    if (meeting == tile::Independent::Append) continue;
    Value &sum = scalars[result];
    const bool whole = sum.getType().isInteger();
    auto combine = [&](Value x, Value y) -> Value {
      if (meeting == tile::Independent::Add)
        return whole ? emit.add(x, y) : Value(arith::AddFOp::create(emit.b, emit.loc, x, y));
      return whole ? emit.max(x, y) : Value(arith::MaxNumFOp::create(emit.b, emit.loc, x, y));
    };
    for (int mask = Lanes::count / 2; mask > 0; mask /= 2) sum = combine(sum, lanes->exchange(sum, mask));
    if (meeting == tile::Independent::Add) sum = combine(init, sum);
  }
  bool stores = false;
  loop.walk([&](tile::StoreFlatOp) { stores = true; });
  if (stores) lanes->sync();
}

Value ScalarProgram::emitAppend(tile::AppendOp op) {
  Value index = plain(op.getIndex()), kept = plain(op.getKept()), value = plain(op.getValue()),
        list = buffer(op.getTensor());
  auto store = [&](Value at) {
    emit.when(kept, [&] { emit.store(value, emit.at(list, emit.toI64(at), value.getType())); });
  };
  if (!lanes) {
    store(index);
    return emit.add(index, arith::ExtUIOp::create(emit.b, emit.loc, emit.b.getI32Type(), kept));
  }
  if (inRange) kept = arith::AndIOp::create(emit.b, emit.loc, kept, inRange);
  auto count = [&](Value bits) { return Value(mlir::math::CtPopOp::create(emit.b, emit.loc, bits)); };
  Value all = lanes->ballot(kept);
  Value before = arith::SubIOp::create(emit.b, emit.loc,
                                       arith::ShLIOp::create(emit.b, emit.loc, emit.i32(1), lanes->own), emit.i32(1));
  store(emit.add(index, count(arith::AndIOp::create(emit.b, emit.loc, all, before))));
  return emit.add(index, count(all));
}

/// A lane, or an element of a register, for each column.
void ScalarProgram::emitPoolRows(tile::PoolRowsOp op) {
  const std::string name = op.getTensor().str();
  const ElementType element = slots.info(name).element;
  const auto width = static_cast<int64_t>(op.getWidth()), stride = static_cast<int64_t>(op.getStride());
  const bool mean = op.getBy() == tile::Pooling::Mean, least = op.getBy() == tile::Pooling::Min;
  Value batch = emit.toI64(plain(op.getBatch())), head = emit.toI64(plain(op.getHead())), into = buffer(op.getTo());
  Value first = emit.toI64(plain(op.getFirst())), end = emit.toI64(plain(op.getEnd())),
        at = emit.toI64(plain(op.getIndex()));
  // `count` columns, in registers, from each of `columns` on.
  auto pool = [&](llvm::ArrayRef<Value> columns, llvm::ArrayRef<int64_t> count) {
    auto load = [&](Value row, size_t n) {
      return emit.loadAs(element, emit.at(slots.row(name, batch, head, row), columns[n], emit.storage(element)),
                         count[n]);
    };
    std::vector<Value> inits;
    for (size_t n = 0; n < columns.size(); ++n) inits.push_back(mean ? emit.zeros() : load(first, n));
    std::vector<Value> sums =
        emit.loop(mean ? first : emit.add(first, emit.i64(1)), end, 1, inits, [&](Value row, mlir::ValueRange carried) {
          std::vector<Value> next;
          for (size_t n = 0; n < columns.size(); ++n) {
            Value own = load(row, n);
            next.push_back(mean ? Value(arith::AddFOp::create(emit.b, emit.loc, carried[n], own))
                                : better(carried[n], own, least));
          }
          return next;
        });
    Value rows =
        emit.splat(arith::SIToFPOp::create(emit.b, emit.loc, emit.real(), emit.max(emit.sub(end, first), emit.i64(1))));
    for (size_t n = 0; n < columns.size(); ++n) {
      Value own = mean ? Value(arith::DivFOp::create(emit.b, emit.loc, sums[n], rows)) : sums[n];
      Value to = emit.at(into, emit.add(at, emit.mul(columns[n], emit.i64(stride))));
      if (stride == 1 || emit.machine.lanes == 1) {
        emit.storeLanes(own, to, count[n]);
        continue;
      }
      for (int64_t lane = 0; lane < count[n]; ++lane)
        emit.store(mlir::vector::ExtractOp::create(emit.b, emit.loc, own, lane),
                   emit.at(to, static_cast<int32_t>(lane * stride)));
    }
  };
  if (lanes) {
    emit.loop(emit.toI64(lanes->own), emit.i64(width), Lanes::count, [&](Value column) { pool({column}, {1}); });
    lanes->sync();
    return;
  }
  for (int64_t from = 0; from < width; from += 8 * emit.machine.lanes) {
    std::vector<Value> columns;
    std::vector<int64_t> count;
    for (int64_t column = from; column < std::min(width, from + 8 * emit.machine.lanes); column += emit.machine.lanes) {
      columns.push_back(emit.i64(column));
      count.push_back(std::min<int64_t>(emit.machine.lanes, width - column));
    }
    pool(columns, count);
  }
}

/// A lane, or an element of a register, for each row of the block.
void ScalarProgram::emitFlatDots(tile::FlatDotsOp op) {
  Value block = emit.at(buffer(op.getBlock()), emit.toI64(plain(op.getBlockIndex())));
  Value count = emit.toI64(plain(op.getCount())), step = emit.i64(static_cast<int64_t>(op.getBlockRows()));
  const auto width = static_cast<int64_t>(op.getWidth()), mostRows = static_cast<int64_t>(op.getMostRows());
  mlir::Type element = emit.real();
  std::vector<Value> rows, to;
  for (int64_t row = 0; row < mostRows; ++row) {
    Value own = row == 0 ? emit.i32(0) : emit.min(emit.i32(row), emit.sub(plain(op.getGiven()), emit.i32(1)));
    rows.push_back(
        emit.at(buffer(op.getRows()), emit.toI64(emit.add(plain(op.getRowIndex()), emit.mul(own, emit.i32(width))))));
    to.push_back(emit.at(buffer(op.getTensor()),
                         emit.toI64(emit.add(plain(op.getIndex()), emit.mul(emit.i32(row), plain(op.getStride()))))));
  }
  if (lanes) {
    internalCheck(op.getBlockRows() == Lanes::count, "lowering", "a block with other rows than a warp has lanes");
    Value own = emit.toI64(lanes->own);
    emit.when(emit.less(own, count), [&] {
      auto sums = emit.loop(emit.i64(0), emit.i64(width), 1, std::vector<Value>(mostRows, emit.constantF(0)),
                            [&](Value c, mlir::ValueRange carried) {
                              Value key = emit.load(element, emit.at(block, emit.add(emit.mul(c, step), own)));
                              std::vector<Value> next;
                              for (int64_t row = 0; row < mostRows; ++row)
                                next.push_back(emit.fma(emit.load(element, emit.at(rows[row], c)), key, carried[row]));
                              return next;
                            });
      for (int64_t row = 0; row < mostRows; ++row) emit.store(sums[row], emit.at(to[row], own));
    });
    lanes->sync();
    return;
  }
  // Eight registers of sums: the next product need not wait for the last. One row has several of them for each of its
  // own.
  const int64_t registers = static_cast<int64_t>(op.getBlockRows()) / emit.machine.lanes,
                atOnce = std::clamp<int64_t>(8 / registers, 1, mostRows);
  const int64_t parts = width % 4 == 0 ? std::clamp<int64_t>(8 / (registers * atOnce), 1, 4) : 1;
  for (int64_t from = 0; from < mostRows; from += atOnce) {
    const int64_t own = std::min(atOnce, mostRows - from);
    std::vector<Value> sums =
        emit.loop(emit.i64(0), emit.i64(width), parts, std::vector<Value>(own * registers * parts, emit.zeros()),
                  [&](Value c, mlir::ValueRange carried) {
                    std::vector<Value> next;
                    for (int64_t part = 0; part < parts; ++part) {
                      Value column = emit.add(c, emit.i64(part)), keys = emit.at(block, emit.mul(column, step));
                      for (int64_t row = from; row < from + own; ++row) {
                        Value one = emit.splat(emit.load(element, emit.at(rows[row], column)));
                        for (int64_t at = 0; at < registers; ++at)
                          next.push_back(emit.fma(
                              one,
                              emit.load(emit.floats(), emit.at(keys, static_cast<int32_t>(at * emit.machine.lanes))),
                              carried[next.size()]));
                      }
                    }
                    return next;
                  });
    for (int64_t at = 0; at < own * registers; ++at) {
      Value sum = sums[at], first = emit.i64(at % registers * emit.machine.lanes);
      for (int64_t part = 1; part < parts; ++part)
        sum = arith::AddFOp::create(emit.b, emit.loc, sum, sums[part * own * registers + at]);
      mlir::LLVM::MaskedStoreOp::create(emit.b, emit.loc, sum, emit.at(to[from + at / registers], first),
                                        emit.firstLanes(emit.sub(count, first)), 4);
    }
  }
}

/// Indices as i32, inside their dims; h becomes its group where the dim is G.
std::vector<Value> ScalarProgram::planIndices(const std::string &name, mlir::OperandRange operands) {
  const TensorInfo &info = slots.info(name);
  std::vector<Value> indices;
  for (auto [operand, dim] : llvm::zip(operands, info.dims)) {
    Value index = plain(operand);
    if (isGroupDim(dim)) index = emit.toI32(slots.groupOf(emit.toI64(index), dim));
    Value last = emit.sub(emit.toI32(slots.dim(dim)), emit.i32(1));
    indices.push_back(emit.max(emit.min(index, last), emit.i32(0)));
  }
  return indices;
}

Value ScalarProgram::planRead(dialect::ReadOp read) {
  const std::string name = read.getInput().str();
  if (!read.getSegment()) return planRead(name, planIndices(name, read.getIndices()), read.getType());
  std::vector<Value> indices = planIndices(name, read.getIndices().drop_back());
  Value count = emit.toI32(slots.dim(slots.info(name).dims.back()));
  indices.emplace_back();
  return emit.segment(count, plain(read.getIndices().back()), [&](Value n) {
    indices.back() = n;
    return planRead(name, indices, read.getType());
  });
}

Value ScalarProgram::planRead(const std::string &name, llvm::ArrayRef<Value> indices, mlir::Type type) {
  const TensorInfo &info = slots.info(name);
  Value offset = emit.i64(0);
  std::vector<Value> place;
  for (Value index : indices) place.push_back(emit.toI64(index));
  if (place.size() == 4) slots.locate(name, place[0], place[2]);
  for (auto [at, index] : llvm::enumerate(place))
    offset = emit.add(offset, emit.mul(index, slots.stride(name, static_cast<int>(at))));
  mlir::Type element = emit.storage(info.element);
  Value value =
      emit.load(element, emit.at(slots.pointer(name), offset, element), static_cast<unsigned>(bytesOf(info.element)));
  if (info.element == ElementType::Bool) return isTrue(value);
  if (dialect::isReal(type) && element != type) return arith::ExtFOp::create(emit.b, emit.loc, type, value);
  return value;
}

Value ScalarProgram::better(Value x, Value y, bool least) {
  mlir::Type type = mlir::getElementTypeOrSelf(x.getType());
  if (dialect::isReal(type)) {
    if (least) return arith::MinimumFOp::create(emit.b, emit.loc, x, y);
    return arith::MaximumFOp::create(emit.b, emit.loc, x, y);
  }
  if (type.isInteger(1)) {
    if (least) return arith::AndIOp::create(emit.b, emit.loc, x, y);
    return arith::OrIOp::create(emit.b, emit.loc, x, y);
  }
  return least ? emit.min(x, y) : emit.max(x, y);
}

void ScalarProgram::emitReadRange(tile::ReadRangeOp op) {
  const std::string name = op.getTensor().str();
  std::vector<Value> indices = planIndices(name, op.getIndices());
  const int axis = static_cast<int>(op.getAxis());
  const TensorInfo &info = slots.info(name);
  Value bound = emit.sub(emit.toI32(slots.dim(info.dims[axis])), emit.i32(1));
  Value end = plain(op.getLast());
  if (isGroupDim(info.dims[axis])) end = emit.toI32(slots.groupOf(emit.toI64(end), info.dims[axis]));
  Value last = emit.max(emit.min(end, bound), emit.i32(0));
  mlir::Type type = op.getLeast().getType();
  Value first = planRead(name, indices, type);
  auto sums = emit.loop(emit.toI64(indices[axis]), emit.add(emit.toI64(last), emit.i64(1)), 1,
                        mlir::ValueRange{first, first}, [&](Value at, mlir::ValueRange carried) {
                          std::vector<Value> own = indices;
                          own[axis] = emit.toI32(at);
                          Value value = planRead(name, own, type);
                          return std::vector<Value>{better(carried[0], value, true), better(carried[1], value, false)};
                        });
  scalars[op.getLeast()] = sums[0];
  scalars[op.getGreatest()] = sums[1];
}

}  // namespace weft::target
