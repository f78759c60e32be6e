#include "compiler/target/cpu/row_product.h"

#include <algorithm>

namespace weft::cpu {
namespace {

namespace vector = mlir::vector;

using Parts = std::vector<Value>;

/// body(first element, elements) for each register of a row's elements from `from` up to `to`.
template <class Body>
void eachPart(const Emitter &emit, int64_t from, int64_t to, Body body) {
  for (int64_t c = from; c < to; c += emit.machine.lanes) body(c, std::min<int64_t>(emit.machine.lanes, to - c));
}

/// Part of row `j`, in f32.
Value partOf(Emitter &emit, const RowProduct &p, Value row, int64_t c, int64_t count) {
  return emit.loadAs(p.type, emit.at(row, emit.i64(c), emit.storage(p.type)), count);
}
Value rowOf(Emitter &emit, const RowProduct &p, Value j) {
  return emit.at(p.rows, emit.mul(j, p.stride), emit.storage(p.type));
}

void clear(Emitter &emit, const RowProduct &p, int64_t rows) {
  if (p.accumulate) return;
  emit.loop(emit.i64(0), emit.i64(rows * p.tileQ), emit.machine.lanes,
            [&](Value index) { emit.store(emit.zeros(), emit.at(p.out, index)); });
}

/// Lanes of `value` are rows from `first` on, of query i.
void addToRows(Emitter &emit, const RowProduct &p, Value value, Value first, int64_t count, Value i) {
  for (int64_t lane = 0; lane < count; ++lane) {
    Value number = vector::ExtractOp::create(emit.b, emit.loc, value, lane);
    Value to = emit.at(p.out, emit.add(emit.mul(emit.add(first, emit.i64(lane)), emit.i64(p.tileQ)), i));
    emit.store(mlir::arith::AddFOp::create(emit.b, emit.loc, emit.load(emit.real(), to), number), to);
  }
}

}  // namespace

void dotRows(Emitter &emit, const RowProduct &p, Value queryRows, Value queryStride) {
  const int lanes = emit.machine.lanes;
  clear(emit, p, p.tileK);
  emit.loop(emit.i64(0), p.queries, 1, [&](Value i) {
    Parts query;
    eachPart(emit, 0, p.columns, [&](int64_t c, int64_t count) {
      query.push_back(emit.loadLanes(emit.at(queryRows, emit.add(emit.mul(i, queryStride), emit.i64(c))), count));
    });
    Value last = emit.sub(p.keys, emit.i64(1));
    emit.loop(emit.i64(0), p.keys, lanes, [&](Value first) {
      Parts sums;  // of a key each
      for (int key = 0; key < lanes; ++key) {
        // The last key stands for those that are not there.
        Value row = rowOf(emit, p, emit.min(emit.add(first, emit.i64(key)), last)), sum;
        eachPart(emit, 0, p.columns, [&](int64_t c, int64_t count) {
          Value part = partOf(emit, p, row, c, count), &own = query[static_cast<size_t>(c / lanes)];
          sum = sum ? emit.fma(part, own, sum) : Value(mlir::arith::MulFOp::create(emit.b, emit.loc, part, own));
        });
        sums.push_back(sum);
      }
      sums = emit.transpose(std::move(sums));
      for (size_t half = sums.size() / 2; half; half /= 2)
        for (size_t at = 0; at < half; ++at)
          sums[at] = mlir::arith::AddFOp::create(emit.b, emit.loc, sums[at], sums[at + half]);
      addToRows(emit, p, sums[0], first, lanes, i);
    });
  });
}

void sumRows(Emitter &emit, const RowProduct &p, Value weights) {
  clear(emit, p, p.columns);
  // As many sums at a time as registers hold beside a weight and what is read.
  const int64_t together = int64_t{emit.machine.registers - 4} * emit.machine.lanes;
  auto sumPart = [&](Value i, int64_t from, int64_t to) {
    Parts inits;
    eachPart(emit, from, to, [&](int64_t, int64_t) { inits.push_back(emit.zeros()); });
    const Parts sums = emit.loop(emit.i64(0), p.keys, 1, inits, [&](Value j, mlir::ValueRange carried) {
      Value weight = emit.splat(emit.load(emit.real(), emit.at(weights, emit.add(emit.mul(j, emit.i64(p.tileQ)), i))));
      Value row = rowOf(emit, p, j);
      Parts next;
      eachPart(emit, from, to, [&](int64_t c, int64_t count) {
        next.push_back(emit.fma(partOf(emit, p, row, c, count), weight, carried[next.size()]));
      });
      return next;
    });
    eachPart(emit, from, to, [&](int64_t c, int64_t count) {
      addToRows(emit, p, sums[static_cast<size_t>((c - from) / emit.machine.lanes)], emit.i64(c), count, i);
    });
  };
  emit.loop(emit.i64(0), p.queries, 1, [&](Value i) {
    for (int64_t from = 0; from < p.columns; from += together) sumPart(i, from, std::min(p.columns, from + together));
  });
}

}  // namespace weft::cpu
