#include "compiler/language/cost.h"

#include <algorithm>
#include <set>

#include "compiler/language/walk.h"

namespace weft::ast {
namespace {

/// A divisor that is a shift or a few bits.
bool powerOfTwo(const Expr &divisor) {
  const auto value = static_cast<int64_t>(divisor.value);
  return divisor.kind == Expr::Kind::Number && divisor.type == Type::Int && value > 0 && (value & (value - 1)) == 0;
}

/// Measured, forward and backward together. What a CPU has no instruction for becomes dozens of operations.
int steps(const Expr &call) {
  switch (call.function) {
    case Function::Pow: return 40;
    case Function::Mod:
    case Function::FloorDiv: return powerOfTwo(*call.args[1]) ? 1 : call.type == Type::Int ? 40 : 5;
    case Function::ShiftLeft: return 4;
    case Function::ShiftRight: return 3;
    case Function::Sin:
    case Function::Cos: return 25;
    case Function::Erf:
    case Function::Log:
    case Function::Log2:
    case Function::Log1p:
    case Function::Softplus: return 20;
    case Function::Exp:
    case Function::Exp2:
    case Function::Tanh:
    case Function::Sigmoid: return 10;
    case Function::Triangle:
    case Function::Floor:
    case Function::Ceil:
    case Function::Round: return 3;
    default: return 1;
  }
}

/// A read at a computed place gathers; if it has a gradient, that is scattered pair by pair.
int stepsOfRead(const Expr &read) {
  if (read.segment) return 40;
  for (const ExprPtr &index : read.args)
    if (index->kind != Expr::Kind::Index) return read.type == Type::Float ? 60 : 5;
  return 2;
}

class Counter {
 public:
  bool enough() const { return count > mostSteps; }
  void add(int steps) { count += steps; }
  /// What `expr` adds to the expressions counted before.
  void add(const ExprPtr &expr) {
    if (!expr || enough()) return;
    argumentsFirst(*expr, visited, [&](const Expr &part) {
      if (part.kind == Expr::Kind::Call) add(steps(part));
      if (part.kind == Expr::Kind::Let) add(1);
      if (part.kind == Expr::Kind::Read && part.type != Type::Row) add(stepsOfRead(part));
      if (part.kind == Expr::Kind::Dot &&
          dots.insert({{part.args[0]->input, part.args[0]->pool}, {part.args[1]->input, part.args[1]->pool}}).second)
        add(100);
      return !enough();
    });
  }
  /// What `expr` costs by itself.
  void addAlone(const ExprPtr &expr) {
    visited.clear();
    add(expr);
  }
  int total() const { return count; }

 private:
  using Row = std::pair<int, Pool>;
  int count = 0;
  Visited visited;
  std::set<std::pair<Row, Row>> dots;
};

}  // namespace

int compileSteps(const Variant &variant) {
  // All sets of keys are in one kernel; each lowers its expressions anew.
  Counter pairs, bands;
  pairs.add(variant.sink);
  for (const KeySet &set : variant.sets) {
    pairs.add(100);
    pairs.addAlone(set.score);
    for (const ExprPtr &expr : {set.weight, set.gate}) pairs.add(expr);
    for (const ExprPtr &where : set.wheres) pairs.add(where);
    // The range of distances that each condition keeps is found apart from the others.
    for (const ExprPtr &where : set.wheres) bands.addAlone(where);
  }
  int most = std::max(pairs.total() * variant.normalizer->keyPasses, bands.total());
  for (const Select &select : variant.selects) {
    Counter round;
    for (const Keep &keep : select.keeps) {
      round.add(20);
      round.add(keep.value);
      round.add(keep.amount);
    }
    most = std::max(most, round.total());
  }
  return most;
}

}  // namespace weft::ast
