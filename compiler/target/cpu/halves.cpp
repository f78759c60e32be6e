#include "compiler/target/cpu/halves.h"

#include <algorithm>

#include "compiler/target/cpu/pairs.h"

namespace weft::cpu {

namespace arith = mlir::arith;
namespace llvmir = mlir::LLVM;

Value Halves::shuffle(Value x, Value y, llvm::ArrayRef<int64_t> lanes) {
  return mlir::vector::ShuffleOp::create(emit.b, emit.loc, x, y, lanes);
}
/// x0 y0 x1 y1 ... of two vectors of i16.
Value Halves::interleaved(Value even, Value odd) {
  const int64_t lanes = mlir::cast<mlir::VectorType>(even.getType()).getDimSize(0);
  llvm::SmallVector<int64_t> order;
  for (int64_t at = 0; at < lanes; ++at) order.append({at, lanes + at});
  return shuffle(even, odd, order);
}

/// x0 y0 x1 y1 ... of a half of each lane of 128 bits, in words, as an instruction has it.
Value Halves::unpacked(Value x, Value y, bool high) {
  llvm::SmallVector<int64_t> order;
  for (int64_t lane = 0; lane < 32; lane += 8)
    for (int64_t at = lane + (high ? 4 : 0); at < lane + (high ? 8 : 4); ++at) order.append({at, 32 + at});
  return shuffle(x, y, order);
}

std::pair<Value, Value> Halves::padded(Value source, Value stride, Value valid, int64_t rows, int64_t columns,
                                       int64_t depth, Value memory) {
  mlir::Type half = i16();
  auto copy = [&] {
    mlir::VectorType part = vector(half, 16);
    Value zero = arith::ConstantOp::create(emit.b, emit.loc, emit.b.getZeroAttr(part));
    emit.loop(emit.i64(0), emit.i64(rows), 1, [&](Value row) {
      Value inside = emit.less(row, valid);
      Value safe = arith::SelectOp::create(emit.b, emit.loc, inside, row, emit.i64(0));
      for (int64_t c = 0; c < depth; c += 16) {
        Value to = emit.at(memory, emit.add(emit.mul(row, emit.i64(depth)), emit.i64(c)), half);
        if (c >= columns) {
          emit.store(zero, to, 2);
          continue;
        }
        Value value = emit.load(part, emit.at(source, emit.add(emit.mul(safe, stride), emit.i64(c)), half), 2);
        emit.store(arith::SelectOp::create(emit.b, emit.loc, inside, value, zero), to, 2);
      }
    });
  };
  Value own = emit.i64(depth);
  if (depth != columns) {
    copy();
    return {memory, own};
  }
  Value partial = emit.less(valid, emit.i64(rows));
  emit.when(partial, copy);
  return {arith::SelectOp::create(emit.b, emit.loc, partial, memory, source),
          arith::SelectOp::create(emit.b, emit.loc, partial, own, stride)};
}

void Halves::columns(Value source, Value stride, int64_t rows, int64_t columns, Value memory) {
  // 32 rows and 8 columns at a time. Lane l of register r has row 8 l + r; each lane is transposed in itself.
  mlir::VectorType lane = vector(i16(), 8);
  auto joined = [&](Value x, Value y) {
    const int64_t count = mlir::cast<mlir::VectorType>(x.getType()).getDimSize(0);
    llvm::SmallVector<int64_t> order;
    for (int64_t at = 0; at < 2 * count; ++at) order.push_back(at);
    return shuffle(x, y, order);
  };
  emit.loop(emit.i64(0), emit.i64(columns), 8, [&](Value column) {
    emit.loop(emit.i64(0), emit.i64(rows), 32, [&](Value row) {
      auto part = [&](int64_t number) {
        Value own = emit.add(row, emit.i64(number));
        return emit.load(lane, emit.at(source, emit.add(emit.mul(own, stride), column), i16()), 2);
      };
      std::vector<Value> registers;
      for (int64_t r = 0; r < 8; ++r)
        registers.push_back(joined(joined(part(r), part(r + 8)), joined(part(r + 16), part(r + 24))));
      // Three times the halves of the list are shuffled, and so are each lane's words: the number of a row moves from
      // that of the register to that of the word, a column's the other way.
      for (int stage = 0; stage < 3; ++stage) {
        std::vector<Value> next;
        for (size_t at = 0; at < 4; ++at)
          for (const bool high : {false, true}) next.push_back(unpacked(registers[at], registers[at + 4], high));
        registers = std::move(next);
      }
      for (int64_t c = 0; c < 8; ++c) {
        Value to = emit.add(emit.mul(emit.add(column, emit.i64(c)), emit.i64(rows)), row);
        emit.store(registers[c], emit.at(memory, to, i16()), 2);
      }
    });
  });
}

void Halves::columnPairs(Value source, Value stride, Value valid, int64_t rows, int64_t columns, int64_t depth,
                         Value memory) {
  mlir::Type words = emit.vectorOf(emit.b.getI32Type());
  Value zero = arith::ConstantOp::create(emit.b, emit.loc, emit.b.getZeroAttr(words));
  const int64_t lanes = emit.machine.lanes, wide = 2 * lanes;
  emit.loop(emit.i64(0), emit.i64(rows), lanes, [&](Value row) {
    for (int64_t column = 0; column < depth; column += wide) {
      std::vector<Value> vectors;
      for (int64_t r = 0; r < lanes; ++r) {
        Value own = emit.add(row, emit.i64(r));
        Value inside = emit.less(own, valid);
        Value safe = arith::SelectOp::create(emit.b, emit.loc, inside, own, emit.i64(0));
        Value from = emit.at(source, emit.add(emit.mul(safe, stride), emit.i64(column)), i16());
        Value part = columns - column >= wide
                         ? emit.load(words, from, 2)
                         : Value(llvmir::MaskedLoadOp::create(emit.b, emit.loc, words, from,
                                                              emit.firstLanes((columns - column) / 2), zero, 2));
        vectors.push_back(arith::SelectOp::create(emit.b, emit.loc, inside, part, zero));
      }
      vectors = emit.transpose(std::move(vectors));
      for (int64_t pair = 0; pair < std::min(lanes, (depth - column) / 2); ++pair) {
        Value to = emit.add(emit.i64((column / 2 + pair) * rows), row);
        emit.store(vectors[pair], emit.at(memory, to, emit.b.getI32Type()), 4);
      }
    }
  });
}

void Halves::rowPairs(Value source, Value stride, Value valid, int64_t rows, int64_t columns, Value memory) {
  mlir::VectorType halves = vector(i16(), 16);
  Value zero = arith::ConstantOp::create(emit.b, emit.loc, emit.b.getZeroAttr(halves));
  emit.loop(emit.i64(0), emit.i64(rows / 2), 1, [&](Value pair) {
    auto load = [&](int64_t odd, int64_t column) -> Value {
      Value own = emit.add(emit.mul(pair, emit.i64(2)), emit.i64(odd));
      Value inside = emit.less(own, valid);
      Value safe = arith::SelectOp::create(emit.b, emit.loc, inside, own, emit.i64(0));
      Value from = emit.at(source, emit.add(emit.mul(safe, stride), emit.i64(column)), i16());
      return arith::SelectOp::create(emit.b, emit.loc, inside, emit.load(halves, from, 2), zero);
    };
    for (int64_t c = 0; c < columns; c += 16) {
      Value to = emit.add(emit.mul(pair, emit.i64(2 * columns)), emit.i64(2 * c));
      emit.store(interleaved(load(0, c), load(1, c)), emit.at(memory, to, i16()), 2);
    }
  });
}

void Halves::roundPairs(Value source, Value valid, int64_t rows, int64_t columns, Value memory) {
  Value zero = emit.zeros();
  auto roundAll = [&](bool whole) {
    emit.loop(emit.i64(0), emit.i64(rows / 2), 1, [&](Value pair) {
      auto load = [&](int64_t odd, int64_t column) -> Value {
        Value row = emit.add(emit.mul(pair, emit.i64(2)), emit.i64(odd));
        Value value =
            emit.load(emit.floats(), emit.at(source, emit.add(emit.mul(row, emit.i64(columns)), emit.i64(column))));
        return whole ? value : arith::SelectOp::create(emit.b, emit.loc, emit.less(row, valid), value, zero);
      };
      for (int64_t c = 0; c < columns; c += emit.machine.lanes) {
        Value to = emit.add(emit.mul(pair, emit.i64(2 * columns)), emit.i64(2 * c));
        emit.store(roundedPairs(emit, load(0, c), load(1, c)), emit.at(memory, to, i16()), 2);
      }
    });
  };
  emit.choose(emit.less(valid, emit.i64(rows)), [&] { roundAll(false); }, [&] { roundAll(true); });
}

void Halves::round(Value source, Value valid, int64_t rows, int64_t columns, Value memory) {
  mlir::Type bf16 = emit.vectorOf(emit.b.getBF16Type());
  emit.loop(emit.i64(0), emit.i64(columns), emit.machine.lanes, [&](Value column) {
    Value inside = emit.firstLanes(emit.sub(valid, column));
    emit.loop(emit.i64(0), emit.i64(rows), 1, [&](Value row) {
      Value index = emit.add(emit.mul(row, emit.i64(columns)), column);
      Value value = emit.load(emit.floats(), emit.at(source, index));
      value = arith::SelectOp::create(emit.b, emit.loc, inside, value, emit.zeros());
      emit.store(arith::TruncFOp::create(emit.b, emit.loc, bf16, value), emit.at(memory, index, emit.b.getBF16Type()),
                 2);
    });
  });
}

}  // namespace weft::cpu
