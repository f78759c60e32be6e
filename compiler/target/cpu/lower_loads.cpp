// Rows of tensors, and how the products want them: as they lie, converted, packed or gathered.
#include "compiler/target/cpu/kernel_code.h"
#include "llvm/ADT/STLExtras.h"

namespace weft::cpu {
namespace {

Value gather(KernelCode &code, const std::string &name, Value batch, Value head, Value first, const Buffer &own) {
  Emitter &emit = code.emit;
  const ElementType type = code.slots.info(name).element;
  Value memory = code.allocate((own.rows * own.columns * bytesOf(type) + 3) / 4);
  mlir::Type element = emit.storage(type);
  emit.loop(emit.i64(0), own.validRows, 1, [&](Value row) {
    Value from = code.slots.row(name, batch, head, code.slots.keyAt(emit.add(first, row)).first);
    Value to = emit.at(memory, emit.mul(row, emit.i64(own.columns)), element);
    for (int64_t c = 0; c < own.columns; c += emit.machine.lanes) {
      Value part = emit.loadAs(type, emit.at(from, emit.i64(c), element), own.columns - c);
      emit.storeAs(type, part, emit.at(to, emit.i64(c), element), own.columns - c);
    }
  });
  return memory;
}

void loadForAmx(KernelCode &code, tile::LoadOp op, Buffer &result, Value source, Value stride) {
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
          code.amx.transposedPairs(source, stride, result.validRows, rows, columns, code.allocate(rows * depth / 2));
    if (tn)
      result.amxRowPairs =
          code.amx.rowPairs(source, stride, result.validRows, rows, columns, code.allocate(rows * columns / 2));
  } else {
    result.amxRows = code.amx.rows(source, stride, result.validRows, rows, columns, code.allocate(rows * depth / 2));
    if (nn)
      result.amxTransposed = code.amx.transposed(result.amxRows, rows, columns, code.allocate(rows * columns / 2));
  }
}

/// [column][row] copy of a row-major tile; rows past the end become zero.
Value pack(KernelCode &code, Value source, Value stride, ElementType type, Value valid, int64_t rows, int64_t columns) {
  Emitter &emit = code.emit;
  const int lanes = emit.machine.lanes;
  mlir::Type element = emit.storage(type);
  const int64_t padded = (columns + lanes - 1) / lanes * lanes;
  Value memory = code.allocate(padded * rows);
  emit.loop(emit.i64(0), emit.i64(rows), lanes, [&](Value row) {
    auto block = [&](Value column, int64_t count) {
      std::vector<Value> vectors;
      for (int r = 0; r < lanes; ++r) {
        Value own = emit.add(row, emit.i64(r));
        Value inside = emit.less(own, valid);
        // Row 0 always exists; what is read from it in place of a missing row is dropped.
        Value safe = arith::SelectOp::create(code.builder, emit.loc, inside, own, emit.i64(0));
        Value pointer = emit.at(source, emit.add(emit.mul(safe, stride), column), element);
        Value part = emit.loadAs(type, pointer, count);
        vectors.push_back(arith::SelectOp::create(code.builder, emit.loc, inside, part, emit.zeros()));
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

}  // namespace

void lower(KernelCode &code, tile::LoadOp op) {
  Emitter &emit = code.emit;
  const bool query = op.getSide() == tile::Side::Query;
  const std::string name = op.getTensor().str();
  const ElementType type = code.slots.info(name).element;
  Buffer result;
  result.kind = Buffer::Kind::Operand;
  result.rows = code.shapeOf(op.getResult())[0];
  result.columns = code.shapeOf(op.getResult())[1];
  Value first = emit.mul(code.scalar(op.getIndex()), emit.i64(result.rows));
  const std::string &dim = code.slots.info(name).dims[2];
  const bool listed = code.slots.listed(dim);
  result.validRows = emit.min(emit.sub(code.slots.dim(code.slots.keyExtent(dim)), first), emit.i64(result.rows));
  Value head = code.slots.headOf(name, code.scalar(op.getHead())), stride = code.slots.stride(name, 2), source;
  if (listed) {
    source = gather(code, name, code.scalar(op.getBatch()), head, first, result);
    stride = emit.i64(result.columns);
  } else {
    source = code.slots.row(name, code.scalar(op.getBatch()), head, first);
  }
  if (code.useAmx) {
    loadForAmx(code, op, result, source, stride);
    code.buffers[op.getResult()] = result;
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
    Value memory = code.allocate(result.rows * result.columns);
    emit.loop(emit.i64(0), result.validRows, 1, [&](Value row) {
      Value from = emit.at(source, emit.mul(row, stride), emit.storage(type));
      Value to = emit.at(memory, emit.mul(row, emit.i64(result.columns)));
      for (int64_t c = 0; c < result.columns; c += emit.machine.lanes) {
        Value part = emit.loadAs(type, emit.at(from, emit.i64(c), emit.storage(type)), result.columns - c);
        emit.storeLanes(part, emit.at(to, emit.i64(c)), result.columns - c);
      }
    });
    result.natural = {memory, emit.i64(result.columns)};
  }
  if (packed) result.packed = pack(code, source, stride, type, result.validRows, result.rows, result.columns);
  code.buffers[op.getResult()] = result;
}

void lower(KernelCode &code, tile::LoadRowsOp op) {
  Emitter &emit = code.emit;
  Buffer result = code.rowBuffer();
  Value first = emit.mul(code.scalar(op.getIndex()), emit.i64(code.tileQ));
  Value valid = emit.sub(code.slots.dim("T"), first);
  const std::string name = op.getTensor().str();
  Value source = code.slots.row(name, code.scalar(op.getBatch()), code.scalar(op.getHead()), first);
  Value fill = emit.splat(emit.constantF(op.getFill().convertToFloat()));
  emit.loop(emit.i64(0), emit.i64(code.tileQ), emit.machine.lanes, [&](Value lane) {
    Value mask = emit.firstLanes(emit.sub(valid, lane));
    Value part =
        mlir::LLVM::MaskedLoadOp::create(code.builder, emit.loc, emit.floats(), emit.at(source, lane), mask, fill, 4);
    emit.store(part, emit.at(result.memory, lane));
  });
  code.buffers[op.getResult()] = result;
}

}  // namespace weft::cpu
