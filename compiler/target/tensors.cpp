#include "compiler/target/tensors.h"

#include <algorithm>

#include "compiler/dims.h"
#include "compiler/internal_error.h"
#include "compiler/normalizers/facts.h"

namespace weft::target {

ElementType elementOf(mlir::Type type) {
  if (type.isBF16()) return ElementType::BF16;
  if (type.isF16()) return ElementType::F16;
  if (type.isF64()) return ElementType::F64;
  if (type.isInteger(32)) return ElementType::I32;
  if (type.isInteger(64)) return ElementType::I64;
  if (type.isInteger(1)) return ElementType::Bool;
  return ElementType::F32;
}

ElementType rowType(tile::KernelOp kernel) {
  for (auto tensor : kernel.getBody().front().getOps<tile::TensorOp>())
    if (tensor.getRole() == tile::TensorRole::Operand) return elementOf(tensor.getElement());
  return ElementType::F32;
}

bool rowsAreListed(tile::KernelOp kernel, tile::TensorOp tensor) {
  return kernel.getListed() && mlir::cast<mlir::StringAttr>(tensor.getDims()[2]) == "S";
}

KernelArguments::KernelArguments(Emitter &emit, tile::KernelOp kernel) : emit(emit), rowsAre(kernel.getRows()) {
  for (auto tensor : kernel.getBody().front().getOps<tile::TensorOp>()) {
    TensorInfo &own = tensors[tensor.getSymName().str()];
    for (mlir::Attribute dim : tensor.getDims()) own.dims.push_back(mlir::cast<mlir::StringAttr>(dim).str());
    own.element = elementOf(tensor.getElement());
    own.strided = tensor.getStrided();
    own.paged = tensor.getPaged();
  }
  if (auto listed = kernel.getListed()) {
    keys = *listed;
    listDim = keys.getDim().str();
  }
}

Value KernelArguments::get(ArgumentSlot slot, mlir::Type type) {
  for (size_t at = 0; at < list.size(); ++at)
    if (list[at] == slot) return values[at];
  mlir::OpBuilder::InsertionGuard guard(emit.b);
  emit.b.setInsertionPointToStart(entry);
  const int64_t word = wordsBefore + static_cast<int64_t>(list.size());
  Value address = emit.at(slotPointer, emit.i64(word), emit.b.getI64Type());
  Value value = emit.load(type, address, 8);
  list.push_back(std::move(slot));
  values.push_back(value);
  return value;
}

Value KernelArguments::dim(const std::string &name) {
  const ArgumentSlot slot{ArgumentSlot::Kind::Dim, name};
  mlir::Type i64 = emit.b.getI64Type();
  if (name == workspaceRow) return get(slot, i64);
  // Of an extent the lower half (largestExtent): what is computed of it can then be known to fit 32 bits.
  return mlir::arith::ExtUIOp::create(emit.b, emit.loc, i64, get(slot, emit.b.getI32Type()));
}
Value KernelArguments::pointer(const std::string &name) {
  return get({ArgumentSlot::Kind::Pointer, name}, emit.ptrType());
}
Value KernelArguments::seed(int word) {
  // From memory: what draws it may run on the device, and anew at every replay of a graph.
  Value state = pointer("seed");
  mlir::OpBuilder::InsertionGuard guard(emit.b);
  emit.b.setInsertionPointAfter(state.getDefiningOp());
  mlir::Type type = emit.b.getI64Type();
  return emit.load(type, emit.at(state, emit.i64(word), type), 8);
}

const TensorInfo &KernelArguments::info(const std::string &name) const {
  auto found = tensors.find(name);
  internalCheck(found != tensors.end(), "lowering", "unknown tensor " + name);
  return found->second;
}

Value KernelArguments::stride(const std::string &tensor, int index) {
  const TensorInfo &own = info(tensor);
  if (own.strided) return get({ArgumentSlot::Kind::Stride, tensor, index}, emit.b.getI64Type());
  Value result = emit.i64(1);
  for (size_t at = index + 1; at < own.dims.size(); ++at) result = emit.mul(result, dim(own.dims[at]));
  return result;
}

Value KernelArguments::headOf(const std::string &tensor, Value head) {
  const TensorInfo &own = info(tensor);
  return own.dims.size() < 2 || !isGroupDim(own.dims[1]) ? head : groupOfRows(head, own.dims[1]);
}

Value KernelArguments::headsPerGroup(const std::string &group) { return emit.div(dim("H"), dim(group)); }
Value KernelArguments::groupOf(Value head, const std::string &group) {
  // Where the head becomes known: no quotient leaves a branch of a loop by itself, its divisor might be 0.
  mlir::OpBuilder::InsertionGuard guard(emit.b);
  emit.b.setInsertionPointAfterValue(head);
  return emit.div(emit.narrow(head), headsPerGroup(group));
}

Value KernelArguments::batches() { return headRows() ? emit.mul(dim("B"), dim("T")) : dim("B"); }
Value KernelArguments::heads() { return dim(rowsAre == tile::Rows::Heads ? "G" : "H"); }
Value KernelArguments::rows() {
  switch (rowsAre) {
    case tile::Rows::Queries: return dim("T");
    case tile::Rows::Heads: return headsPerGroup();
    case tile::Rows::Head: return emit.i64(1);
  }
  return {};
}
Value KernelArguments::headsOfGroup() { return rowsAre == tile::Rows::Heads ? emit.i64(1) : headsPerGroup(); }
Value KernelArguments::batchOf(Value batch) { return headRows() ? positionOf(batch).first : batch; }
Value KernelArguments::queryOf(Value batch) { return positionOf(batch).second; }
std::pair<Value, Value> KernelArguments::positionOf(Value batch) {
  auto [found, fresh] = positions.try_emplace(batch);
  if (!fresh) return found->second;
  mlir::OpBuilder::InsertionGuard guard(emit.b);
  emit.b.setInsertionPointAfterValue(batch);
  Value own = emit.narrow(batch), queries = dim("T"), first = emit.div(own, queries);
  return positions[batch] = {first, emit.sub(own, emit.mul(first, queries))};
}
Value KernelArguments::firstHead(Value head) {
  return rowsAre == tile::Rows::Heads ? emit.mul(head, headsPerGroup()) : head;
}
Value KernelArguments::headOfRow(Value head, Value row) { return headRows() ? emit.add(firstHead(head), row) : head; }
Value KernelArguments::groupOfRows(Value head, const std::string &group) {
  // Heads of one G are a tile's rows: they have the other groups' rows of queries alone, a row each.
  return rowsAre == tile::Rows::Heads && group == "G" ? head : groupOf(head, group);
}
Value KernelArguments::rowNumber(Value batch, Value head, Value row) {
  return emit.add(emit.mul(batchOf(batch), dim("H")), headOfRow(head, row));
}
Value KernelArguments::rowElement(Value batch, Value head, Value row) {
  return emit.add(emit.mul(rowNumber(batch, head, row), dim("T")), headRows() ? queryOf(batch) : row);
}
Value KernelArguments::extent(const std::string &tensor) {
  const std::string &own = info(tensor).dims[2];
  return own == "T" ? rows() : dim(keyExtent(own));
}
Value KernelArguments::rowStride(const std::string &tensor) {
  return stride(tensor, headRows() && info(tensor).dims[2] == "T" ? 1 : 2);
}

void KernelArguments::enterRow(Value batch, Value head, Value query) {
  if (!keys) return;
  const std::string list = keys.getList().getValue().str();
  Value offset = emit.i64(0);
  for (const std::string &name : info(list).dims) {
    offset = emit.mul(offset, dim(name));
    if (name == "B") offset = emit.add(offset, batchOf(batch));
    else if (name == "H") offset = emit.add(offset, head);
    else if (isGroupDim(name)) offset = emit.add(offset, groupOfRows(head, name));
    else if (name == "T" && headRows()) offset = emit.add(offset, queryOf(batch));
    else if (name != listDim) offset = emit.add(offset, emit.div(query, emit.i64(keys.getTile())));
  }
  keyPointer = emit.at(pointer(list), offset, emit.b.getI32Type());
}

std::pair<Value, Value> KernelArguments::keyAt(Value n) {
  mlir::Type i32 = emit.b.getI32Type();
  Value position = emit.load(i32, emit.at(keyPointer, n, i32)), count = emit.toI32(dim("S"));
  Value safe = emit.max(emit.min(position, emit.sub(count, emit.i32(1))), emit.i32(0));
  // Unsigned: below 0 is far above; of no keys at all none exists.
  Value exists = mlir::arith::CmpIOp::create(emit.b, emit.loc, mlir::arith::CmpIPredicate::ult, position, count);
  return {emit.toI64(safe), exists};
}

bool KernelArguments::inPages(const std::string &tensor) const { return info(tensor).paged; }

void KernelArguments::locate(const std::string &tensor, Value &batch, Value &index) {
  if (!inPages(tensor)) return;
  Value number = emit.div(emit.narrow(index), dim("page"));
  Value at = emit.add(emit.mul(batch, dim("pages")), number);
  mlir::Type i32 = emit.b.getI32Type();
  batch = emit.toI64(emit.load(i32, emit.at(pointer("pages"), at, i32)));
  index = emit.sub(index, emit.mul(number, dim("page")));
}

Value KernelArguments::rowOffset(const std::string &tensor, Value batch, Value head, Value index) {
  if (headRows()) {
    if (info(tensor).dims[2] == "T") {
      head = emit.add(firstHead(head), index);
      index = queryOf(batch);
    }
    batch = batchOf(batch);
  }
  locate(tensor, batch, index);
  Value offset = emit.mul(batch, stride(tensor, 0));
  offset = emit.add(offset, emit.mul(head, stride(tensor, 1)));
  return emit.add(offset, emit.mul(index, stride(tensor, 2)));
}

Value KernelArguments::row(const std::string &tensor, Value batch, Value head, Value index) {
  Value offset = rowOffset(tensor, batch, head, index);
  return emit.at(pointer(tensor), offset, emit.storage(info(tensor).element));
}

}  // namespace weft::target
