// Products of tiles.
#include "compiler/target/cpu/kernel_code.h"
#include "compiler/target/cpu/product.h"

namespace weft::cpu {

void lower(KernelCode &code, tile::DotOp op) {
  Emitter &emit = code.emit;
  const tile::DotForm form = op.getForm();
  Buffer &lhs = code.buffer(op.getLhs()), &rhs = code.buffer(op.getRhs());
  Value rowStride = emit.i64(code.tileQ);
  if (code.useAmx) {
    if (form == tile::DotForm::NT) {
      Buffer out = code.transposedBuffer(rhs.rows);
      code.amx.product(out.memory, rowStride, rhs.amxRows, lhs.amxColumnPairs, rhs.rows, code.tileQ,
                       Amx::roundUp(lhs.columns, 32), false);
      code.buffers[op.getResult()] = out;
      return;
    }
    Buffer out = code.buffer(op.getAcc());
    if (form == tile::DotForm::NN) {
      Amx::Operand pairs = code.amx.pairsOf(lhs.memory, rhs.validRows, code.tileK, code.tileQ,
                                            code.allocate(code.tileK * code.tileQ / 2));
      code.amx.product(out.memory, rowStride, rhs.amxTransposed, pairs, rhs.columns, code.tileQ, code.tileK, true);
    } else {
      Amx::Operand halves = code.amx.halvesOf(lhs.memory, rhs.validRows, code.tileK, code.tileQ,
                                              code.allocate(code.tileK * code.tileQ / 2));
      code.amx.product(out.memory, emit.i64(out.columns), halves, rhs.amxRowPairs, code.tileK, out.columns, code.tileQ,
                       true);
    }
    code.buffers[op.getResult()] = out;
    return;
  }
  if (form == tile::DotForm::NT) {
    // logits[j][i] = sum over c of keys[j][c] * packed[c][i]
    Buffer out = code.transposedBuffer(rhs.rows);
    product(emit, {out.memory, rowStride, rhs.natural.base, rhs.natural.stride, emit.i64(1), lhs.packed, rowStride,
                   rhs.validRows, emit.i64(lhs.columns), code.tileQ, false, code.blockRows, op.getBlocked()});
    code.buffers[op.getResult()] = out;
    return;
  }
  Buffer out = code.buffer(op.getAcc());
  if (form == tile::DotForm::NN)
    // out[e][i] += sum over j of values[j][e] * p[j][i]
    product(emit, {out.memory, rowStride, rhs.natural.base, emit.i64(1), rhs.natural.stride, lhs.memory, rowStride,
                   emit.i64(rhs.columns), rhs.validRows, code.tileQ, true, code.blockRows});
  else
    // out[j][e] += sum over i of p[j][i] * queries[i][e]
    product(emit, {out.memory, emit.i64(out.columns), lhs.memory, rowStride, emit.i64(1), rhs.natural.base,
                   rhs.natural.stride, emit.i64(out.rows), rhs.validRows, out.columns, true, code.blockRows});
  code.buffers[op.getResult()] = out;
}

void lower(KernelCode &code, tile::DotIntoOp op) {
  Emitter &emit = code.emit;
  Buffer &lhs = code.buffer(op.getLhs()), &rhs = code.buffer(op.getRhs());
  const std::string name = op.getTensor().str();
  const std::string &dim = code.slots.info(name).dims[2];
  const bool listed = code.slots.listed(dim);
  Value first = emit.mul(code.scalar(op.getIndex()), emit.i64(code.tileK));
  Value valid = emit.min(emit.sub(code.slots.dim(code.slots.keyExtent(dim)), first), emit.i64(code.tileK)),
        stride = code.slots.stride(name, 2);
  Value out = code.slots.row(name, code.scalar(op.getBatch()), code.slots.headOf(name, code.scalar(op.getHead())),
                             listed ? emit.i64(0) : first);
  Value staged, width = emit.i64(rhs.columns);
  // Rows of `staged` to where they belong.
  auto addRows = [&] {
    emit.loop(emit.i64(0), valid, 1, [&](Value row) {
      auto [key, exists] = listed ? code.slots.keyAt(emit.add(first, row)) : std::pair{row, Value()};
      auto add = [&, key = key] {
        for (int64_t c = 0; c < rhs.columns; c += emit.machine.lanes) {
          Value to = emit.at(out, emit.add(emit.mul(key, stride), emit.i64(c)));
          Value more = emit.loadLanes(emit.at(staged, emit.add(emit.mul(row, width), emit.i64(c))), rhs.columns - c);
          Value old = emit.loadLanes(to, rhs.columns - c);
          emit.storeLanes(arith::AddFOp::create(code.builder, emit.loc, old, more), to, rhs.columns - c);
        }
      };
      exists ? emit.when(exists, add) : add();
    });
  };
  if (code.useAmx) {
    Amx::Operand halves = code.amx.halvesOf(lhs.memory, rhs.validRows, code.tileK, code.tileQ,
                                            code.allocate(code.tileK * code.tileQ / 2));
    auto multiply = [&](Value to, Value step, bool accumulate) {
      code.amx.product(to, step, halves, rhs.amxRowPairs, code.tileK, rhs.columns, code.tileQ, accumulate);
    };
    staged = code.allocate(code.tileK * rhs.columns);
    auto byWay = [&] {
      multiply(staged, width, false);
      addRows();
    };
    if (listed) return byWay();
    // The last keys: registers reach past the end, so their sums go by way of scratch memory.
    emit.choose(emit.less(valid, emit.i64(code.tileK)), byWay, [&] { multiply(out, stride, true); });
    return;
  }
  if (listed) {
    staged = code.allocate(code.tileK * rhs.columns + emit.machine.lanes);
    emit.loop(emit.i64(0), emit.i64(code.tileK * rhs.columns), emit.machine.lanes,
              [&](Value at) { emit.store(emit.zeros(), emit.at(staged, at)); });
    product(emit, {staged, width, lhs.memory, emit.i64(code.tileQ), emit.i64(1), rhs.natural.base, rhs.natural.stride,
                   valid, rhs.validRows, rhs.columns, true, code.blockRows});
    return addRows();
  }
  product(emit, {out, stride, lhs.memory, emit.i64(code.tileQ), emit.i64(1), rhs.natural.base, rhs.natural.stride,
                 valid, rhs.validRows, rhs.columns, true, code.blockRows});
}

}  // namespace weft::cpu
