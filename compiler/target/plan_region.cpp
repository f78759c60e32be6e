#include "compiler/target/plan_region.h"

#include "compiler/internal_error.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/STLExtras.h"

namespace weft::target {

namespace arith = mlir::arith;

/// Values of plan kernels keep their own types; coordinates are truncated once.
Value PlanRegion::plain(Value value) {
  auto found = scalars.find(value);
  internalCheck(found != scalars.end(), "plan lowering", "plan value without code");
  if (value.getType().isInteger(32) && found->second.getType().isInteger(64))
    return emit.toI32(found->second);
  return found->second;
}

void PlanRegion::emitOp(mlir::Operation &op) {
  if (auto dim = mlir::dyn_cast<dialect::DimOp>(op)) {
    scalars[dim.getResult()] = emit.toI32(slots.dim(dim.getDim().str()));
  } else if (auto read = mlir::dyn_cast<dialect::ReadOp>(op)) {
    scalars[read.getResult()] = planRead(read.getInput().str(), planIndices(read.getInput().str(), read.getIndices()), read.getType());
  } else if (auto range = mlir::dyn_cast<tile::ReadRangeOp>(op)) {
    emitReadRange(range);
  } else if (auto store = mlir::dyn_cast<tile::StoreFlatOp>(op)) {
    Value index = emit.toI64(plain(store.getIndex())), value = plain(store.getValue());
    emit.store(value, emit.at(slots.pointer(store.getTensor().str()), index, value.getType()));
  } else if (auto load = mlir::dyn_cast<tile::LoadFlatOp>(op)) {
    Value index = emit.toI64(plain(load.getIndex()));
    scalars[load.getResult()] = emit.load(load.getType(), emit.at(slots.pointer(load.getTensor().str()), index, load.getType()));
  } else if (auto loop = mlir::dyn_cast<mlir::scf::ForOp>(op)) {
    std::vector<Value> inits;
    for (Value init : loop.getInitArgs()) inits.push_back(plain(init));
    auto copy = mlir::scf::ForOp::create(emit.b, emit.loc, plain(loop.getLowerBound()),
                                         plain(loop.getUpperBound()), plain(loop.getStep()), inits);
    mlir::OpBuilder::InsertionGuard guard(emit.b);
    emit.b.setInsertionPointToStart(copy.getBody());
    for (auto [from, to] : llvm::zip(loop.getBody()->getArguments(), copy.getBody()->getArguments()))
      scalars[from] = to;
    for (mlir::Operation &inner : loop.getBody()->without_terminator()) emitOp(inner);
    std::vector<Value> next;
    for (Value value : loop.getBody()->getTerminator()->getOperands()) next.push_back(plain(value));
    if (!next.empty()) mlir::scf::YieldOp::create(emit.b, emit.loc, next);
    for (auto [from, to] : llvm::zip(loop.getResults(), copy.getResults())) scalars[from] = to;
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

/// Indices as i32, inside their dims; h becomes its group where the dim is G.
std::vector<Value> PlanRegion::planIndices(const std::string &name, mlir::OperandRange operands) {
  const TensorInfo &info = slots.info(name);
  std::vector<Value> indices;
  for (auto [operand, dim] : llvm::zip(operands, info.dims)) {
    Value index = plain(operand);
    if (dim == "G")
      index = emit.toI32(emit.div(emit.toI64(index), emit.div(slots.dim("H"), slots.dim("G"))));
    Value last = emit.sub(emit.toI32(slots.dim(dim)), emit.i32(1));
    indices.push_back(emit.max(emit.min(index, last), emit.i32(0)));
  }
  return indices;
}

Value PlanRegion::planRead(const std::string &name, llvm::ArrayRef<Value> indices, mlir::Type type) {
  const TensorInfo &info = slots.info(name);
  Value offset = emit.i64(0);
  std::vector<Value> place;
  for (Value index : indices) place.push_back(emit.toI64(index));
  if (place.size() == 4) slots.locate(name, place[0], place[2]);
  for (auto [at, index] : llvm::enumerate(place)) offset = emit.add(offset, emit.mul(index, slots.stride(name, static_cast<int>(at))));
  mlir::Type element = emit.storage(info.element);
  Value value = emit.load(element, emit.at(slots.pointer(name), offset, element),
                          static_cast<unsigned>(bytesOf(info.element)));
  if (info.element == ElementType::Bool)
    return arith::CmpIOp::create(emit.b, emit.loc, arith::CmpIPredicate::ne, value,
                                 arith::ConstantIntOp::create(emit.b, emit.loc, 0, 8));
  if (type.isF32() && info.element != ElementType::F32)
    return arith::ExtFOp::create(emit.b, emit.loc, type, value);
  return value;
}

void PlanRegion::emitReadRange(tile::ReadRangeOp op) {
  const std::string name = op.getTensor().str();
  std::vector<Value> indices = planIndices(name, op.getIndices());
  const int axis = static_cast<int>(op.getAxis());
  const TensorInfo &info = slots.info(name);
  Value bound = emit.sub(emit.toI32(slots.dim(info.dims[axis])), emit.i32(1));
  Value last = emit.max(emit.min(plain(op.getLast()), bound), emit.i32(0));
  mlir::Type type = op.getLeast().getType();
  Value first = planRead(name, indices, type);
  auto better = [&](Value x, Value y, bool least) -> Value {
    if (type.isF32()) {
      if (least) return arith::MinimumFOp::create(emit.b, emit.loc, x, y);
      return arith::MaximumFOp::create(emit.b, emit.loc, x, y);
    }
    if (type.isInteger(1)) {
      if (least) return arith::AndIOp::create(emit.b, emit.loc, x, y);
      return arith::OrIOp::create(emit.b, emit.loc, x, y);
    }
    return least ? emit.min(x, y) : emit.max(x, y);
  };
  auto sums = emit.loop(emit.toI64(indices[axis]), emit.add(emit.toI64(last), emit.i64(1)), 1,
                        mlir::ValueRange{first, first}, [&](Value at, mlir::ValueRange carried) {
                          std::vector<Value> own = indices;
                          own[axis] = emit.toI32(at);
                          Value value = planRead(name, own, type);
                          return std::vector<Value>{better(carried[0], value, true),
                                                    better(carried[1], value, false)};
                        });
  scalars[op.getLeast()] = sums[0];
  scalars[op.getGreatest()] = sums[1];
}

}  // namespace weft::target
