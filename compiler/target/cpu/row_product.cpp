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

/// body(i, n): of the tile's queries `n` at a time from the i-th on; what is read of a row then serves all of them.
template <class Body>
void eachQueries(Emitter &emit, const RowProduct &p, Body body) {
  Value done = emit.i64(0);
  for (const int64_t n : {4, 2, 1}) {
    if (n > emit.machine.lanes) continue;
    Value end = emit.add(done, emit.mul(emit.div(emit.sub(p.queries, done), emit.i64(n)), emit.i64(n)));
    emit.loop(done, end, n, [&](Value i) { body(i, n); });
    done = end;
  }
}

/// A lane l of the result is the sum of vector l. As many vectors as lanes.
Value sumsOf(Emitter &emit, Parts vectors) {
  const auto lanes = static_cast<int64_t>(vectors.size());
  for (int64_t half = lanes / 2; half; half /= 2) {
    // Half of each stretch stays where it is; beside it comes the other half of the other vector.
    llvm::SmallVector<int64_t> stay, come;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const bool low = lane % (2 * half) < half;
      stay.push_back(low ? lane : lanes + lane);
      come.push_back(low ? lane + half : lanes + lane - half);
    }
    for (int64_t at = 0; at < half; ++at) {
      auto both = [&](llvm::ArrayRef<int64_t> mask) -> Value {
        return vector::ShuffleOp::create(emit.b, emit.loc, vectors[at], vectors[at + half], mask);
      };
      vectors[at] = mlir::arith::AddFOp::create(emit.b, emit.loc, both(stay), both(come));
    }
  }
  return vectors[0];
}

/// Of `n` queries from i on a row each n lanes of `values`, rows from `first` on.
void toRows(Emitter &emit, const RowProduct &p, Value values, Value first, int64_t rows, Value i, int64_t n) {
  for (int64_t row = 0; row < rows; ++row) {
    Value own = n == 1 ? Value(vector::ExtractOp::create(emit.b, emit.loc, values, row))
                       : vector::ExtractStridedSliceOp::create(emit.b, emit.loc, values, {row * n}, {n}, {1});
    Value to = emit.at(p.out, emit.add(emit.mul(emit.add(first, emit.i64(row)), emit.i64(p.tileQ)), i));
    if (p.accumulate) own = mlir::arith::AddFOp::create(emit.b, emit.loc, emit.load(own.getType(), to), own);
    emit.store(own, to);
  }
}

/// Vectors of equally many lanes, lane by lane.
Value interleave(Emitter &emit, Value left, Value right) {
  const int64_t lanes = mlir::cast<mlir::VectorType>(left.getType()).getNumElements();
  llvm::SmallVector<int64_t> mask;
  for (int64_t lane = 0; lane < lanes; ++lane) mask.append({lane, lanes + lane});
  return vector::ShuffleOp::create(emit.b, emit.loc, left, right, mask);
}

}  // namespace

void dotRows(Emitter &emit, const RowProduct &p, Value queryRows, Value queryStride) {
  const int lanes = emit.machine.lanes;
  clear(emit, p, p.tileK);
  Value last = emit.sub(p.keys, emit.i64(1));
  eachQueries(emit, p, [&](Value i, int64_t n) {
    std::vector<Parts> query(static_cast<size_t>(n));
    for (int64_t at = 0; at < n; ++at)
      eachPart(emit, 0, p.columns, [&](int64_t c, int64_t count) {
        Value row = emit.mul(emit.add(i, emit.i64(at)), queryStride);
        query[at].push_back(emit.loadLanes(emit.at(queryRows, emit.add(row, emit.i64(c))), count));
      });
    const int64_t keys = lanes / n;
    emit.loop(emit.i64(0), p.keys, keys, [&](Value first) {
      Parts sums(static_cast<size_t>(lanes));  // of a key and a query each
      for (int64_t key = 0; key < keys; ++key) {
        // The last key stands for those that are not there.
        Value row = rowOf(emit, p, emit.min(emit.add(first, emit.i64(key)), last));
        eachPart(emit, 0, p.columns, [&](int64_t c, int64_t count) {
          Value part = partOf(emit, p, row, c, count);
          for (int64_t at = 0; at < n; ++at) {
            Value &sum = sums[static_cast<size_t>(key * n + at)], own = query[at][static_cast<size_t>(c / lanes)];
            sum = sum ? emit.fma(part, own, sum) : Value(mlir::arith::MulFOp::create(emit.b, emit.loc, part, own));
          }
        });
      }
      toRows(emit, p, sumsOf(emit, std::move(sums)), first, keys, i, n);
    });
  });
}

void sumRows(Emitter &emit, const RowProduct &p, Value weights) {
  const int64_t lanes = emit.machine.lanes;
  clear(emit, p, p.columns);
  auto sumPart = [&](Value i, int64_t n, int64_t from, int64_t to) {
    const int64_t parts = (to - from + lanes - 1) / lanes;
    const Parts inits(static_cast<size_t>(parts * n), emit.zeros());
    // Of a part the sums of the queries, then those of the next one.
    const Parts sums = emit.loop(emit.i64(0), p.keys, 1, inits, [&](Value j, mlir::ValueRange carried) {
      Parts own, next;
      for (int64_t at = 0; at < n; ++at) {
        Value place = emit.add(emit.mul(j, emit.i64(p.tileQ)), emit.add(i, emit.i64(at)));
        own.push_back(emit.splat(emit.load(emit.real(), emit.at(weights, place))));
      }
      Value row = rowOf(emit, p, j);
      eachPart(emit, from, to, [&](int64_t c, int64_t count) {
        Value part = partOf(emit, p, row, c, count);
        for (Value weight : own) next.push_back(emit.fma(part, weight, carried[next.size()]));
      });
      return next;
    });
    eachPart(emit, from, to, [&](int64_t c, int64_t count) {
      Parts own(sums.begin() + (c - from) / lanes * n, sums.begin() + ((c - from) / lanes + 1) * n);
      if (n == 4) own = {interleave(emit, own[0], own[2]), interleave(emit, own[1], own[3])};
      toRows(emit, p, n == 1 ? own[0] : interleave(emit, own[0], own[1]), emit.i64(c), count, i, n);
    });
  };
  eachQueries(emit, p, [&](Value i, int64_t n) {
    // As many sums at a time as registers hold beside the weights and what is read.
    const int64_t most = std::max<int64_t>(1, (emit.machine.registers - 3 - n) / n);
    const int64_t all = (p.columns + lanes - 1) / lanes, turns = (all + most - 1) / most;
    const int64_t together = (all + turns - 1) / turns * lanes;
    for (int64_t from = 0; from < p.columns; from += together)
      sumPart(i, n, from, std::min(p.columns, from + together));
  });
}

}  // namespace weft::cpu
