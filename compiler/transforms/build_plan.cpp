#include "compiler/transforms/build_plan.h"

#include "compiler/dims.h"
#include "compiler/internal_error.h"
#include "compiler/transforms/build_select.h"
#include "compiler/transforms/operands_first.h"
#include "compiler/transforms/plan_kernel.h"
#include "compiler/transforms/signature.h"
#include "llvm/ADT/SmallPtrSet.h"

namespace weft {
namespace {

using mlir::Value;

/// How a value depends on the pair (i, j) of one head.
struct Dependence {
  enum class Kind {
    Uniform,   ///< not at all
    Affine,    ///< ci * i + cj * j + uniform
    Distance,  ///< on d = i - j only; `rises` says how
    Rows,      ///< on an input's rows at i or j
    Other,     ///< in a way not analysed
  };
  Kind kind = Kind::Other;
  int ci = 0, cj = 0;
  int rises = 0;           ///< Distance: +1 non-decreasing in d, -1 non-increasing, 0 unknown
  bool saturates = false;  ///< Affine: it is the nearest int to such a sum, whose terms do not saturate
};
using Kind = Dependence::Kind;

using Known = llvm::DenseMap<Value, Dependence>;

Dependence analyse(Value value, Known &known);

/// `known` keeps a shared let from being walked once a use.
Dependence dependenceOf(Value value, Known &known) {
  operandsFirst(
      value, [&](Value own) { return known.contains(own); },
      [&](Value own) {
        const Dependence result = analyse(own, known);
        known[own] = result;
      });
  return known.lookup(value);
}

Dependence analyse(Value value, Known &known) {
  if (auto argument = mlir::dyn_cast<mlir::BlockArgument>(value)) {
    const unsigned number = argument.getArgNumber();
    if (number == 2) return {Kind::Affine, 1, 0, 0};
    if (number == 3) return {Kind::Affine, 0, 1, 0};
    return {Kind::Uniform};
  }
  mlir::Operation *op = value.getDefiningOp();
  if (mlir::isa<mlir::arith::ConstantOp, dialect::DimOp>(op)) return {Kind::Uniform};
  if (auto mask = mlir::dyn_cast<dialect::MaskOp>(op)) return dependenceOf(mask.getValue(), known);
  if (auto read = mlir::dyn_cast<dialect::ReadOp>(op)) {
    for (Value index : read.getIndices())
      if (dependenceOf(index, known).kind != Kind::Uniform) return {Kind::Rows};
    return {Kind::Uniform};
  }
  auto map = mlir::dyn_cast<dialect::MapOp>(op);
  if (!map) return {Kind::Other};

  const Function f = map.function();
  llvm::SmallVector<Dependence, 3> x;
  bool uniform = true, rows = false, other = false;
  for (Value arg : map.getArgs()) {
    x.push_back(dependenceOf(arg, known));
    uniform &= x.back().kind == Kind::Uniform;
    rows |= x.back().kind == Kind::Rows;
    other |= x.back().kind == Kind::Other;
  }
  if (uniform) return {Kind::Uniform};
  if (other) return {Kind::Other};
  if (rows) return {Kind::Rows};

  auto affine = [](const Dependence &v) { return v.kind == Kind::Affine || v.kind == Kind::Uniform; };
  const bool allAffine = std::all_of(x.begin(), x.end(), affine);
  // Coefficients this large are none that a mask is made of.
  for (const Dependence &v : x)
    if (std::max(std::abs(v.ci), std::abs(v.cj)) > 1 << 20) return {Kind::Other};
  const bool saturates = std::any_of(x.begin(), x.end(), [](const Dependence &v) { return v.saturates; });
  // Of ints alone: a float is rounded. Nor does a sum of what has saturated stay a sum of its terms.
  if (allAffine && !saturates && map.getType().isInteger(32)) {
    if (f == Function::Add) return {Kind::Affine, x[0].ci + x[1].ci, x[0].cj + x[1].cj, 0, !map.getExact()};
    if (f == Function::Sub) return {Kind::Affine, x[0].ci - x[1].ci, x[0].cj - x[1].cj, 0, !map.getExact()};
    if (f == Function::Neg) return {Kind::Affine, -x[0].ci, -x[0].cj, 0, !map.getExact()};
  }

  // From here on: does it depend on i - j alone, and does it rise or fall with it?
  auto sign = [](int v) { return (v > 0) - (v < 0); };
  const bool comparison = f >= Function::Lt && f <= Function::Ne;
  if (comparison && allAffine) {
    const int ci = x[0].ci - x[1].ci, cj = x[0].cj - x[1].cj;
    // Positions lie far inside the ints: compared with them, a sum that has saturated says the same as the sum.
    const bool apart = (x[0].ci != -x[0].cj || x[1].ci != -x[1].cj) && x[0].saturates && x[1].saturates;
    if (ci != -cj || apart) return {Kind::Rows};
    const bool greater = f == Function::Gt || f == Function::Ge;
    const bool less = f == Function::Lt || f == Function::Le;
    return {Kind::Distance, 0, 0, greater ? sign(ci) : less ? -sign(ci) : 0};
  }
  for (Dependence &v : x) {
    if (v.kind != Kind::Affine) continue;
    if (v.ci != -v.cj) return {Kind::Rows};
    v = {Kind::Distance, 0, 0, sign(v.ci)};
  }
  auto rises = [&](size_t at) { return x[at].rises; };
  auto isUniform = [&](size_t at) { return x[at].kind == Kind::Uniform; };
  auto bothRise = [&](int a, bool uniformA, int b, bool uniformB) {
    if (uniformA) return b;
    if (uniformB) return a;
    return a == b ? a : 0;
  };
  auto constantSign = [&](size_t at) {
    auto value = dialect::constantOf(map.getArgs()[at]);
    return value ? (*value > 0) - (*value < 0) : 0;
  };
  Dependence result{Kind::Distance, 0, 0, 0};
  switch (f) {
    case Function::Neg:
    case Function::Not: result.rises = -rises(0); break;
    case Function::Add:
    case Function::Min:
    case Function::Max:
    case Function::And:
    case Function::Or: result.rises = bothRise(rises(0), isUniform(0), rises(1), isUniform(1)); break;
    case Function::Sub: result.rises = bothRise(rises(0), isUniform(0), -rises(1), isUniform(1)); break;
    case Function::Mul:
      result.rises = isUniform(0) ? constantSign(0) * rises(1) : isUniform(1) ? constantSign(1) * rises(0) : 0;
      break;
    case Function::Div: result.rises = isUniform(1) ? constantSign(1) * rises(0) : 0; break;
    case Function::FloorDiv: result.rises = isUniform(1) ? constantSign(1) * rises(0) : 0; break;
    case Function::ShiftLeft:
    case Function::ShiftRight: result.rises = isUniform(1) ? rises(0) : 0; break;
    case Function::Clamp: result.rises = isUniform(1) && isUniform(2) ? rises(0) : 0; break;
    case Function::Gt:
    case Function::Ge: result.rises = bothRise(rises(0), isUniform(0), -rises(1), isUniform(1)); break;
    case Function::Lt:
    case Function::Le: result.rises = bothRise(-rises(0), isUniform(0), rises(1), isUniform(1)); break;
    case Function::Exp:
    case Function::Exp2:
    case Function::Tanh:
    case Function::Erf:
    case Function::Sigmoid:
    case Function::Relu:
    case Function::Softplus:
    case Function::Floor:
    case Function::Ceil:
    case Function::Round:
    case Function::ToFloat: result.rises = rises(0); break;
    default: break;
  }
  return result;
}

struct Parts {
  std::vector<Value> masks;    ///< conditions that must all hold
  std::vector<Value> weights;  ///< factors of the weight
};

Parts partsOf(dialect::PairwiseOp program) {
  Parts parts;
  auto mask = resultOf(program, "mask").getDefiningOp<dialect::MaskOp>();
  parts.masks = ScalarBuilder::parts(mask.getValue(), Function::And);
  if (Value weight = resultOf(program, "weight")) parts.weights = ScalarBuilder::parts(weight, Function::Mul);
  return parts;
}

/// True for a condition without a float in it.
bool ofInts(Value value) {
  std::vector<Value> left{value};
  llvm::SmallPtrSet<void *, 16> seen;
  while (!left.empty()) {
    const Value next = left.back();
    left.pop_back();
    if (!seen.insert(next.getAsOpaquePointer()).second) continue;
    if (dialect::isReal(next.getType())) return false;
    if (mlir::Operation *op = next.getDefiningOp()) left.insert(left.end(), op->operand_begin(), op->operand_end());
  }
  return true;
}

/// True where the form of a float says that it is never below 0.
bool neverNegative(Value value) {
  if (auto number = dialect::constantOf(value)) return *number >= 0;
  auto map = value.getDefiningOp<dialect::MapOp>();
  if (!map) return false;
  switch (map.function()) {
    case Function::Exp:
    case Function::Exp2:
    case Function::Sqrt:
    case Function::Rsqrt:
    case Function::Sigmoid:
    case Function::Softplus:
    case Function::Relu:
    case Function::Abs: return true;
    case Function::Clamp: {
      auto least = dialect::constantOf(map.getArgs()[1]), greatest = dialect::constantOf(map.getArgs()[2]);
      return least && greatest && *least >= 0 && *greatest >= 0;
    }
    case Function::ToFloat: return map.getArgs()[0].getType().isInteger(1);
    default: return false;
  }
}

class PlanBuilder : PlanKernel {
 public:
  using PlanKernel::PlanKernel;

  /// band[(b * H + h) * 4 ...]: least and greatest kept d; least and greatest d where every mask
  /// holds.
  void band() {
    mlir::Block *entry = begin(ofKeys("plan_band", keyDim), tile::Grid::Head, 2);
    Value b = entry->getArgument(0), h = entry->getArgument(1);
    Value least = s.map(Function::Neg, {dim(keyDim)}), greatest = dim("T");
    Value lo = least, hi = greatest;
    Parts parts = partsOf(program);
    Value fullLo = lo, fullHi = hi;
    Known known;
    auto narrow = [&](Value condition, Value &from, Value &to, auto holds) {
      const Dependence dependence = dependenceOf(condition, known);
      if (dependence.kind != Kind::Distance || dependence.rises == 0) return;
      const bool rising = dependence.rises > 0;
      Value end = bisect(b, h, rising, least, greatest,
                         [&](IntervalBuilder &intervals) { return holds(intervals.of(condition)); });
      if (rising) from = s.map(Function::Max, {from, end});
      else to = s.map(Function::Min, {to, end});
    };
    for (Value mask : parts.masks) narrow(mask, lo, hi, [](const Interval &bounds) { return bounds.hi; });
    // A pair of ints holds always where it can hold. Of floats a bound or two lies between.
    const bool whole = std::all_of(parts.masks.begin(), parts.masks.end(), [](Value mask) { return ofInts(mask); });
    if (whole) {
      fullLo = lo;
      fullHi = hi;
    } else {
      for (Value mask : parts.masks) narrow(mask, fullLo, fullHi, [](const Interval &bounds) { return bounds.lo; });
    }
    // Two factors below 0 make a weight above it.
    for (Value weight : parts.weights)
      if (parts.weights.size() == 1 || neverNegative(weight))
        narrow(weight, lo, hi, [&](const Interval &bounds) { return negate(deadWeight(bounds)); });
    Value base = s.map(Function::Mul, {s.add(s.mul(b, dim("H")), h), s.constantInt(4)});
    int at = 0;
    for (Value value : {lo, hi, fullLo, fullHi}) store(value, ofKeys("band", keyDim), s.add(base, s.constantInt(at++)));
  }

  /// Writes the tiles that row tile `rt` (query tiles, or key tiles) keeps, and how many. Each row has room for all the
  /// tiles of the other side, so one kernel without knowledge of other rows is enough.
  void lists(bool byKey) {
    mlir::Block *entry = begin(ofKeys(byKey ? "plan_lists_keys" : "plan_lists", keyDim),
                               byKey ? tile::Grid::HeadKey : tile::Grid::Query, 3);
    Value b = entry->getArgument(0), h = entry->getArgument(1), rt = entry->getArgument(2);
    const int own = byKey ? tileK : tileQ, other = byKey ? tileQ : tileK;
    // Lists of keys and selections are of the keys of v.
    const bool main = keyDim == "S";
    const KeyListDescription listed = main ? describedKeys(module) : KeyListDescription();
    const bool headRows = rows != tile::Rows::Queries;
    internalCheck(!byKey || !headRows, "build_plan", "rows that are heads, by keys");
    Value ownDim = byKey ? dim(keyDim) : rowCount(), otherDim = dim(byKey ? "T" : listed ? listed.dim : keyDim);
    Interval ownBox = box(rt, own, ownDim);
    Value head = s.add(s.mul(b, headCount()), h);
    Box pair{b, h, {}, {}};
    if (headRows) {
      pair.b = quotient(b, dim("T"));
      Value i = s.sub(b, s.mul(pair.b, dim("T")));
      pair.i = {i, i, s.constantBool(false), {}};
      if (rows == tile::Rows::Heads) {
        Value first = s.mul(h, ownDim);
        pair.h = s.add(first, ownBox.lo);
        pair.lastHead = s.add(first, ownBox.hi);
      }
    }
    Value row = s.add(s.mul(head, tiles(ownDim, own)), rt);
    Value start = s.mul(row, tiles(otherDim, other));
    if (!listed.counts.empty())
      otherDim = load(listed.counts, s.add(s.mul(head, dim(selectedRows)), quotient(rt, listed.tile / tileQ)),
                      builder.getI32Type());
    Value end = loop(
        s.constantInt(0), tiles(otherDim, other), {start},
        [&](Value index, mlir::ValueRange carried) {
          Interval otherBox = box(index, other, otherDim), positions = otherBox;
          if (listed) positions = listedKeys(listed, pair, rt, otherBox);
          pair.j = byKey ? ownBox : positions;
          if (!headRows) pair.i = byKey ? otherBox : ownBox;
          IntervalBuilder intervals(builder, s.loc, program, pair);
          Interval mask = intervals.of(resultOf(program, "mask"));
          Value kept = mask.hi;
          if (listed) {
            kept = both(kept, s.map(Function::Ge, {positions.hi, s.constantInt(0)}));
            Value known = both(s.map(Function::Ge, {positions.lo, s.constantInt(0)}),
                               s.map(Function::Lt, {positions.hi, dim("S")}));
            mask.lo = both(mask.lo, known);
          }
          if (Value weight = resultOf(program, "weight")) {
            kept = both(kept, negate(deadWeight(intervals.of(weight))));
            // A factor that is 0 takes the whole weight with it, whatever the others are.
            const std::vector<Value> factors = ScalarBuilder::parts(weight, Function::Mul);
            if (factors.size() > 1)
              for (Value factor : factors) {
                const Interval own = intervals.of(factor);
                kept = both(kept, negate(both(deadWeight(own), s.map(Function::Ge, {own.lo, s.constant(0)}))));
              }
          }
          if (const SelectedTiles chosen = main ? selectedTiles(module) : SelectedTiles()) {
            // Whole tiles were chosen, in a size that this one divides.
            Value qt = quotient(byKey ? index : rt, chosen.tileQ / tileQ),
                  kt = quotient(byKey ? rt : index, chosen.tileK / tileK);
            Value at =
                s.add(s.mul(s.add(s.mul(head, tiles(dim("T"), chosen.tileQ)), qt), tiles(dim("S"), chosen.tileK)), kt);
            kept = both(kept, load("selection", at, builder.getI1Type()));
          }
          auto whole = [&](const Interval &interval, int tile) {
            return s.map(Function::Eq, {s.sub(interval.hi, interval.lo), s.constantInt(tile - 1)});
          };
          Value full = both(mask.lo, both(whole(ownBox, own), whole(otherBox, other)));
          Value entryValue = s.add(s.mul(index, s.constantInt(2)), s.select(full, s.constantInt(1), s.constantInt(0)));
          return std::vector<Value>{
              append(entryValue, kept, ofKeys(byKey ? "entries_keys" : "entries", keyDim), carried[0])};
        },
        tile::Independent::Append)[0];
    store(s.sub(end, start), ofKeys(byKey ? "counts_keys" : "counts", keyDim), row);
  }

 private:
  /// Least and greatest position that a tile of a list names.
  Interval listedKeys(const KeyListDescription &listed, const Box &pair, Value queryTile, const Interval &entries) {
    llvm::SmallVector<Value> indices;
    for (const std::string &name : listed.dims) {
      if (name == "B") indices.push_back(pair.b);
      else if (isHeadDim(name)) indices.push_back(pair.h);  // of groups a head means its own
      else if (name == listed.dim) indices.push_back(entries.lo);
      else if (rows != tile::Rows::Queries) indices.push_back(pair.i.lo);
      else indices.push_back(quotient(queryTile, listed.tile / tileQ));
    }
    const int axis = static_cast<int>(indices.size()) - 1;
    auto range = tile::ReadRangeOp::create(builder, s.loc, builder.getI32Type(), builder.getI32Type(), listed.input,
                                           axis, entries.hi, indices);
    return {range.getLeast(), range.getGreatest(), s.constantBool(false), {}};
  }

  /// A weight that is 0 in all of a box, as are its derivatives: i1.
  Value deadWeight(const Interval &weight) {
    Value dead = both(s.map(Function::Le, {weight.hi, s.constant(0)}), negate(weight.varies));
    return weight.nan ? both(dead, negate(weight.nan)) : dead;
  }

  /// The last d, from the keeping side, that `keeps(intervals of the pair)` keeps. Invariant of the loop: `in` side
  /// kept, `out` side not; both ends are one step outside the range.
  template <class Keeps>
  Value bisect(Value b, Value h, bool rising, Value least, Value greatest, Keeps keeps) {
    Value one = s.constantInt(1);
    Value below = s.sub(least, one), above = s.add(greatest, one);
    auto loop = mlir::scf::ForOp::create(builder, s.loc, s.constantInt(0), s.constantInt(33), one,
                                         mlir::ValueRange{below, above});
    mlir::OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(loop.getBody());
    Value low = loop.getRegionIterArgs()[0], high = loop.getRegionIterArgs()[1];
    Value half = mlir::arith::ShRSIOp::create(builder, s.loc, s.add(low, high), one);
    Value d = s.map(Function::Clamp, {half, least, greatest});
    Value zero = s.constantInt(0);
    Value i = s.map(Function::Max, {d, zero}), j = s.map(Function::Max, {s.map(Function::Neg, {d}), zero});
    Value no = s.constantBool(false);
    IntervalBuilder intervals(builder, s.loc, program, {b, h, {i, i, no, {}}, {j, j, no, {}}});
    Value kept = keeps(intervals);
    Value apart = s.map(Function::Gt, {s.sub(high, low), one});
    // Rising: kept is above. Falling: kept is below.
    Value toHigh = rising ? kept : s.map(Function::Not, {kept});
    Value nextHigh = s.select(s.map(Function::And, {apart, toHigh}), half, high);
    Value nextLow = s.select(s.map(Function::And, {apart, s.map(Function::Not, {toHigh})}), half, low);
    mlir::scf::YieldOp::create(builder, s.loc, mlir::ValueRange{nextLow, nextHigh});
    return loop.getResult(rising ? 1 : 0);
  }
};

}  // namespace

PlanForm planForm(mlir::ModuleOp module, const std::string &keyDim) {
  if (keyDim == "S" && (selectedTiles(module) || describedKeys(module))) return PlanForm::Lists;
  if (describedRows(module) != tile::Rows::Queries) return PlanForm::Lists;
  auto program = module.lookupSymbol<dialect::PairwiseOp>(ofKeys("forward", keyDim));
  Parts parts = partsOf(program);
  Known known;
  for (Value mask : parts.masks) {
    const Dependence dependence = dependenceOf(mask, known);
    if (dependence.kind == Kind::Uniform && dialect::boolOf(mask)) continue;
    if (dependence.kind != Kind::Distance || dependence.rises == 0) return PlanForm::Lists;
  }
  // A weight that reads rows can be zero in whole tiles; one of the distance alone that is not
  // monotone (a wave) touches every tile of the band.
  for (Value weight : parts.weights)
    if (dependenceOf(weight, known).kind == Kind::Rows) return PlanForm::Lists;
  return PlanForm::Band;
}

void buildPlan(mlir::ModuleOp module, const std::string &kernel, const KernelShape &shape) {
  auto [name, keyDim] = llvm::StringRef(kernel).split('.');
  PlanBuilder plan(module, shape.tileQ, shape.tileK, keyDim.empty() ? "S" : keyDim.str());
  if (name == "plan_band") plan.band();
  else if (name == "plan_lists" || name == "plan_lists_keys") plan.lists(name == "plan_lists_keys");
  else throw InternalError("build_plan", "no kernel named " + kernel);
}

}  // namespace weft
