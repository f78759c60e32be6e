#include "compiler/target/scalar_region.h"

#include "compiler/dialect/moved_index.h"
#include "compiler/dims.h"
#include "compiler/origin_dims.h"
#include "llvm/ADT/STLExtras.h"

namespace weft::target {

namespace arith = mlir::arith;
namespace vector = mlir::vector;

void ScalarRegion::bindCoordinate(Value from, Coordinate coordinate) {
  coordinates[from] = coordinate;
  Value value;
  switch (coordinate) {
    case Coordinate::B: value = emit.toI32(slots.batchOf(context.batch)); break;
    case Coordinate::H: value = headOfLanes(); break;
    case Coordinate::J: value = context.j ? emit.toI32(context.j) : emit.i32(0); break;
    case Coordinate::I:
      value = slots.headRows() ? emit.toI32(slots.queryOf(context.batch))
                               : emit.add(emit.splat(emit.toI32(context.i)), emit.iota());
      break;
  }
  mapping.map(from, value);
}

/// Rows past the last head read the last one's; it is never used.
Value ScalarRegion::headOfLanes() {
  if (!slots.headRows()) return emit.toI32(context.head);
  Value first = emit.toI32(slots.headOfRow(context.head, context.i)),
        last = emit.sub(emit.toI32(slots.dim("H")), emit.i32(1));
  return emit.min(emit.add(emit.splat(first), emit.iota()), emit.splat(last));
}

Value ScalarRegion::lookup(Value value) {
  if (Value found = mapping.lookupOrNull(value)) return found;
  Value outer = onOuter(value);
  mapping.map(value, outer);
  return outer;
}

Value ScalarRegion::result(Value value, bool vector) {
  Value mapped = lookup(value);
  return vector && !isVector(mapped) ? emit.splat(mapped) : mapped;
}

void ScalarRegion::emitBlock(mlir::Block &block) {
  for (mlir::Operation &op : block.without_terminator()) {
    emit.loc = op.getLoc();
    if (auto read = mlir::dyn_cast<dialect::ReadOp>(op)) {
      mapping.map(read.getResult(), this->read(read));
    } else if (auto dim = mlir::dyn_cast<dialect::DimOp>(op)) {
      mapping.map(dim.getResult(), emit.toI32(slots.dim(dim.getDim().str())));
    } else if (auto number = mlir::dyn_cast<dialect::RandomOp>(op)) {
      mapping.map(op.getResult(0), random(number));
    } else if (auto maskOp = mlir::dyn_cast<dialect::MaskOp>(op)) {
      if (context.full) {
        mask = arith::ConstantOp::create(emit.b, emit.loc, emit.b.getBoolAttr(true));
      } else {
        mask = lookup(maskOp.getValue());
        if (context.inBounds) {
          if (!isVector(mask)) mask = emit.splat(mask);
          mask = arith::AndIOp::create(emit.b, emit.loc, mask, context.inBounds);
        }
      }
      mapping.map(maskOp.getResult(), mask);
    } else if (auto sum = mlir::dyn_cast<dialect::AccumulateOp>(op)) {
      Value value = lookup(sum.getValue());
      if (context.inBounds && !context.full) {
        if (!isVector(value)) value = emit.splat(value);
        value = arith::SelectOp::create(emit.b, emit.loc, context.inBounds, value, emit.zeros());
      }
      onAccumulate(sum, value);
    } else {
      // An elementwise operation: a vector as soon as one operand is.
      const bool anyVector = llvm::any_of(op.getOperands(), [&](Value operand) { return isVector(lookup(operand)); });
      mlir::IRMapping operands;
      for (Value operand : op.getOperands()) operands.map(operand, result(operand, anyVector));
      mlir::Operation *copy = emit.b.clone(op, operands);
      if (anyVector)
        for (mlir::OpResult value : copy->getResults()) value.setType(emit.vectorOf(value.getType()));
      for (auto [from, to] : llvm::zip(op.getResults(), copy->getResults())) mapping.map(from, to);
    }
  }
  checkOutside();
}

void ScalarRegion::checkOutside() {
  auto check = [&](Value condition, bool ofKept) {
    auto with = [&](Value other) {
      if (isVector(condition) && !isVector(other)) other = emit.splat(other);
      if (!isVector(condition) && isVector(other)) condition = emit.splat(condition);
      condition = arith::AndIOp::create(emit.b, emit.loc, condition, other);
    };
    if (mask && ofKept) with(mask);
    if (context.inBounds) with(context.inBounds);
    if (isVector(condition))
      condition = vector::ReductionOp::create(emit.b, emit.loc, vector::CombiningKind::OR, condition);
    if (onOutside) onOutside(condition);
    else noteOutside(emit, slots, condition);
  };
  for (Value condition : outside) check(condition, true);
  for (Value condition : outsidePiece) check(condition, false);
  outside.clear();
  outsidePiece.clear();
}

void noteOutside(Emitter &emit, KernelArguments &slots, Value condition) {
  Value status = slots.pointer("status");
  emit.when(condition, [&] { emit.store(emit.i32(1), status); });
}

std::vector<Value> ScalarRegion::safeIndices(llvm::StringRef input, mlir::OperandRange indices, int moved) {
  const TensorInfo &info = slots.info(input.str());
  std::vector<Value> safe;
  for (auto [operand, dim] : llvm::zip(indices, info.dims)) {
    Value index = lookup(operand);
    auto coordinate = coordinates.find(operand);
    if (coordinate != coordinates.end()) {
      const Coordinate own = coordinate->second;
      if (own == Coordinate::H && isGroupDim(dim)) {
        safe.push_back(group(index, dim));
        continue;
      }
      if ((own == Coordinate::B && dim == "B") || (own == Coordinate::H && dim == "H") ||
          (own == Coordinate::J && dim == context.keyDim && context.keysInBounds)) {
        safe.push_back(index);
        continue;
      }
    }
    Value size = emit.toI32(slots.dim(dim)), last = emit.sub(size, emit.i32(1));
    Value zero = emit.i32(0);
    if (isVector(index)) {
      size = emit.splat(size);
      last = emit.splat(last);
      zero = emit.splat(zero);
    }
    Value clamped = emit.max(emit.min(index, last), zero);
    // Pairs past the last query or key read the last element; it is never used.
    const bool own =
        coordinate != coordinates.end() && ((coordinate->second == Coordinate::I && dim == "T") ||
                                            (coordinate->second == Coordinate::J && dim == context.keyDim));
    safe.push_back(clamped);
    if (own) continue;
    // Unsigned: below 0 is far above; of an empty dim every index is outside.
    Value leaves = arith::CmpIOp::create(emit.b, emit.loc, arith::CmpIPredicate::uge, index, size);
    outside.push_back(leaves);
    const size_t side = dim == "T" ? 0 : 1;
    if ((side == 0 || dim == "S") && (moved >> side & 1)) {
      auto number = [&](size_t at) {
        Value one = emit.toI32(slots.dim(originDims[at]));
        return isVector(index) ? emit.splat(one) : one;
      };
      Value elsewhere = arith::CmpIOp::create(emit.b, emit.loc, arith::CmpIPredicate::ult,
                                              emit.add(index, number(side)), number(side + 2));
      outsidePiece.push_back(arith::AndIOp::create(emit.b, emit.loc, leaves, elsewhere));
    }
  }
  return safe;
}

Value ScalarRegion::group(Value head, const std::string &dim) {
  if (slots.headRows() && dim == "G") return emit.toI32(slots.groupOfRows(context.head));
  if (!isVector(head)) return emit.toI32(slots.groupOf(emit.toI64(head), dim));
  return emit.div(head, emit.splat(emit.toI32(slots.headsPerGroup(dim))));
}

std::vector<Value> ScalarRegion::indicesOfHead(dialect::ReadOp op) {
  const TensorInfo &info = slots.info(op.getInput().str());
  for (auto [operand, dim] : llvm::zip(op.getIndices(), info.dims)) {
    auto own = coordinates.find(operand);
    if (own == coordinates.end()) return {};
    const bool batch = own->second == Coordinate::B && dim == "B";
    const bool head = own->second == Coordinate::H && (dim == "G" || (isHeadDim(dim) && !slots.headRows()));
    if (!batch && !head) return {};
  }
  emit.b.setInsertionPointAfterValue(context.head);
  std::vector<Value> indices;
  for (const std::string &dim : info.dims)
    indices.push_back(emit.toI32(dim == "B"        ? slots.batchOf(context.batch)
                                 : isGroupDim(dim) ? slots.groupOfRows(context.head, dim)
                                                   : context.head));
  return indices;
}

Value ScalarRegion::read(dialect::ReadOp op) {
  const std::string name = op.getInput().str();
  const TensorInfo &info = slots.info(name);
  // Loads stay where they are put: what a loop reads in each turn is loaded before it.
  mlir::OpBuilder::InsertionGuard guard(emit.b);
  if (op.getSegment()) {
    // The query's index in the whole sequence is its own and where the piece begins.
    const Value piece = dialect::ownIndex(op.getIndices().back());
    auto coordinateOf = [&](Value index) {
      auto own = coordinates.find(piece && index == op.getIndices().back() ? piece : index);
      return own == coordinates.end() ? Coordinate::J : own->second;
    };
    std::vector<Value> indices;
    Value x;
    if (!slots.headRows() && coordinateOf(op.getIndices().back()) == Coordinate::I &&
        llvm::all_of(op.getIndices(), [&](Value index) { return coordinateOf(index) != Coordinate::J; })) {
      // Of the rows alone: before the loop over keys.
      emit.b.setInsertionPointAfterValue(context.i);
      for (Value index : op.getIndices().drop_back())
        indices.push_back(emit.toI32(coordinateOf(index) == Coordinate::B ? context.batch : context.head));
      if (info.dims.size() > 1 && isGroupDim(info.dims[info.dims.size() - 2]))
        indices.back() = emit.toI32(slots.groupOf(context.head, info.dims[info.dims.size() - 2]));
      x = emit.add(emit.splat(emit.toI32(context.i)), emit.iota());
      if (piece) x = emit.add(x, emit.splat(emit.toI32(slots.dim(originDims[0]))));
    } else {
      indices = safeIndices(op.getInput(), op.getIndices().drop_back());
      x = lookup(op.getIndices().back());
    }
    if (llvm::any_of(indices, isVector) && !isVector(x)) x = emit.splat(x);
    indices.emplace_back();
    return emit.segment(emit.toI32(slots.dim(info.dims.back())), x, [&](Value n) {
      indices.back() = n;
      return element(op, indices);
    });
  }
  std::vector<Value> indices = indicesOfHead(op);
  return element(op,
                 indices.empty() ? safeIndices(op.getInput(), op.getIndices(), dialect::movedIndices(op)) : indices);
}

Value ScalarRegion::element(dialect::ReadOp op, llvm::ArrayRef<Value> indices) {
  const std::string name = op.getInput().str();
  const TensorInfo &info = slots.info(name);
  const bool anyVector = llvm::any_of(indices, isVector);
  mlir::Type element = emit.storage(info.element);

  auto finish = [&](Value value) -> Value {
    mlir::Type type = anyVector ? mlir::Type(emit.floats()) : mlir::Type(emit.real());
    if (info.element == ElementType::BF16 || info.element == ElementType::F16)
      return arith::ExtFOp::create(emit.b, emit.loc, type, value);
    if (info.element == ElementType::Bool) {
      Value zero = arith::ConstantOp::create(emit.b, emit.loc, emit.b.getZeroAttr(value.getType()));
      return arith::CmpIOp::create(emit.b, emit.loc, arith::CmpIPredicate::ne, value, zero);
    }
    return value;
  };

  // Offsets: 64 bits, vector only where an index is.
  Value scalarOffset = emit.i64(0), vectorOffset;
  bool contiguous = false;
  for (size_t at = 0; at < indices.size(); ++at) {
    Value stride = slots.stride(name, static_cast<int>(at));
    if (!isVector(indices[at])) {
      scalarOffset = emit.add(scalarOffset, emit.mul(emit.toI64(indices[at]), stride));
      continue;
    }
    auto coordinate = coordinates.find(op.getIndices()[at]);
    contiguous = !op.getSegment() && !vectorOffset && at + 1 == indices.size() && !info.strided && !context.inBounds &&
                 coordinate != coordinates.end() && coordinate->second == Coordinate::I;
    Value wide = arith::ExtSIOp::create(emit.b, emit.loc, emit.vectorOf(emit.b.getI64Type()), indices[at]);
    Value part = emit.mul(wide, emit.splat(stride));
    vectorOffset = vectorOffset ? emit.add(vectorOffset, part) : part;
  }
  Value base = emit.at(slots.pointer(name), scalarOffset, element);
  const unsigned alignment = static_cast<unsigned>(bytesOf(info.element));
  if (!anyVector) {
    Value value = emit.load(element, base, alignment);
    // Nobody writes inputs: on GPUs loads of several pairs are under way at once, whatever is added up between them.
    if (emit.machine.globalSpace) value.getDefiningOp<mlir::LLVM::LoadOp>().setInvariant(true);
    return finish(value);
  }
  mlir::Type stored = emit.vectorOf(element);
  if (contiguous) return finish(emit.load(stored, emit.at(base, context.i, element), alignment));
  Value pointers = mlir::LLVM::GEPOp::create(emit.b, emit.loc, emit.vectorOf(emit.ptrType()), element, base,
                                             llvm::ArrayRef<mlir::LLVM::GEPArg>{vectorOffset});
  Value all = emit.firstLanes(emit.machine.lanes);
  return finish(
      mlir::LLVM::masked_gather::create(emit.b, emit.loc, stored, pointers, all, mlir::ValueRange{}, alignment));
}

/// Philox4x32-10 (Salmon et al. 2011), counter (i, j, b * H + h, offset), key seed; the first word's
/// upper 24 bits as a number in [0, 1).
Value ScalarRegion::random(dialect::RandomOp op) {
  const int64_t set = op.getSet();
  // Other keys than those of v belong to the whole sequence.
  auto placed = [&](Value index, bool queries) {
    if (!op.getOrigin() || (!queries && set > 0)) return index;
    return emit.add(index, slots.dim(originDims[queries ? 0 : 1]));
  };
  auto vectorI32 = [&](Value scalar) { return emit.splat(scalar); };
  auto constant = [&](uint32_t value) { return vectorI32(emit.i32(static_cast<int32_t>(value))); };
  auto low = [&](Value wide) { return emit.toI32(wide); };
  auto high = [&](Value wide) { return emit.toI32(arith::ShRUIOp::create(emit.b, emit.loc, wide, emit.i64(32))); };
  Value x0 = slots.headRows() ? vectorI32(low(placed(slots.queryOf(context.batch), true)))
                              : emit.add(vectorI32(low(placed(context.i, true))), emit.iota());
  Value x1 = vectorI32(low(emit.add(placed(context.j, false), emit.i64(set << 30))));
  Value x2 = vectorI32(low(slots.rowNumber(context.batch, context.head, context.i)));
  if (slots.headRows()) x2 = emit.add(x2, emit.iota());
  Value x3 = vectorI32(low(slots.seed(1)));
  Value key0 = vectorI32(low(slots.seed(0))), key1 = vectorI32(high(slots.seed(0)));
  auto xorOf = [&](Value x, Value y) { return Value(arith::XOrIOp::create(emit.b, emit.loc, x, y)); };
  for (int round = 0; round < 10; ++round) {
    auto product0 = arith::MulUIExtendedOp::create(emit.b, emit.loc, constant(0xD2511F53u), x0);
    auto product1 = arith::MulUIExtendedOp::create(emit.b, emit.loc, constant(0xCD9E8D57u), x2);
    Value y0 = xorOf(xorOf(product1.getHigh(), x1), key0);
    Value y2 = xorOf(xorOf(product0.getHigh(), x3), key1);
    x1 = product1.getLow();
    x3 = product0.getLow();
    x0 = y0;
    x2 = y2;
    key0 = emit.add(key0, constant(0x9E3779B9u));
    key1 = emit.add(key1, constant(0xBB67AE85u));
  }
  Value bits = arith::ShRUIOp::create(emit.b, emit.loc, x0, constant(8));
  Value number = arith::SIToFPOp::create(emit.b, emit.loc, emit.floats(), bits);
  return arith::MulFOp::create(emit.b, emit.loc, number, emit.splat(emit.constantF(1.0f / 16777216)));
}

}  // namespace weft::target
