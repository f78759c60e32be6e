// entmax15, entmax with alpha = 1.5 (Peters et al. 2019): p = max(s / 2 - tau, 0)^2, tau such that a row's p sum to 1.
//
// Forward goes through the keys ten times, as AdaSplash (Goncalves et al. 2025) does, each time with its logits anew:
// once for the row's peak; eight times for the threshold t = tau - peak / 2, which is in [-1, 0); last for the output.
// Each turn is a step of Newton's method on the norm of max(s / 2 - tau, 0) less 1. That is convex and falls, so from
// t = -1 no step goes too far; rows of equal scores take one, and of rows up to 2^18 keys of many shapes none took more
// than eight to be exact in f32. What is left of an error, the last sum takes out as a `scale`.
//
// Backward, with x = max(s / 2 - tau, 0): ds = x (dp - delta), delta = (sum of x dp) / (sum of x), which a pass over
// the keys of its own finds first.
#include <limits>

#include "compiler/normalizers/normalizer.h"

namespace weft {

/// A kept pair's p is x^2 scale, x = max((s - peak) / 2 - threshold, 0).
static constexpr RowState entmaxRows[] = {
    {"peak", std::numeric_limits<float>::infinity()}, {"threshold"}, {"scale"}, {"delta", 0, RowState::Source::Delta}};
extern constexpr NormalizerFacts entmax15Facts{
    .name = "entmax15", .weight = false, .delta = true, .keyPasses = 3, .rows = entmaxRows};

namespace {

using mlir::Value;
using Values = std::vector<Value>;
constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr int newtonSteps = 8;

Value root(ScalarBuilder &s, Value score, Value peak, Value threshold) {
  return s.map(Function::Max, {s.sub(s.mul(s.sub(score, peak), s.constant(0.5)), threshold), s.constant(0)});
}

/// a / b, or 0 where no pair of the row counts.
Value ratio(ScalarBuilder &s, Value a, Value b) {
  return s.select(s.map(Function::Le, {b, s.constant(0)}), s.constant(0), s.div(a, b));
}

class Entmax15 : public Normalizer {
 public:
  void forward(KernelBuilder &k, const QueryTile &at) const override {
    ScalarBuilder &s = k.s;
    const std::map<std::string, Value> queries = k.forwardQueries(at);
    Value peak = peakOf(k, at, queries);
    Value threshold = k.loop(tile::Range::Turns, at.b, at.h, s.constantInt(newtonSteps), k.fillRows(-1),
                             [&](Value, Value, mlir::ValueRange carried) {
                               return Values{newton(k, at, queries, peak, carried[0])};
                             })[0];
    Values sums{k.fill(0, {k.shape.tileQ, k.columns("v")}), k.fillRows(0)};
    k.eachSet([&] {
      auto source = k.program("forward");
      sums = k.loop(tile::Range::Keys, at.b, at.h, at.index, sums, [&](Value kt, Value full, mlir::ValueRange carried) {
        Values tiles = k.dotTiles(source, queries, at, kt);
        Value values = k.load(k.set->values, at.b, at.h, kt, tile::Side::Key);
        auto parts = k.pairwise(at, {kt, full}, tiles, {peak, threshold}, {tile::Reduction::Add}, [&](auto &args) {
          auto named = k.clone(source, at, args.i, args.j, KernelBuilder::bindTiles(source, args.tiles));
          Value x = root(s, named["score"], args.rows[0], args.rows[1]);
          Value p = s.select(KernelBuilder::counting(named), s.mul(x, x), s.constant(0));
          Value factor = k.outputFactor(named);
          Value output = factor ? s.select(KernelBuilder::counting(named), s.mul(p, factor), s.constant(0)) : p;
          return Values{output, p};
        });
        return Values{k.dot(tile::DotForm::NN, parts[0], values, carried[0]), k.addedRows(at, carried[1], parts[1])};
      });
    });
    // Of a row that keeps no key each probability is an exact zero.
    Values last = k.rowwise(at, {sums[1], peak}, 2, [&](mlir::ValueRange args) {
      Value none = s.map(Function::Le, {args[1], s.constant(0)});
      return Values{ratio(s, s.constant(1), args[1]), s.select(none, s.constant(infinity), args[2])};
    });
    k.store(k.scaleRows(sums[0], last[0]), "o", at.b, at.h, at.index);
    k.storeRows(k.fillRows(0), "lse", at);
    k.storeRows(last[1], "row.peak", at);
    k.storeRows(threshold, "row.threshold", at);
    k.storeRows(last[0], "row.scale", at);
  }

  void delta(KernelBuilder &k, const QueryTile &at) const override {
    ScalarBuilder &s = k.s;
    std::map<std::string, Value> queries;
    k.eachSet([&] { k.loadQueries(KernelBuilder::dotsOf(k.program("backward")), at, queries); });
    Value peak = k.loadRows("row.peak", at, std::numeric_limits<float>::infinity());
    Value threshold = k.loadRows("row.threshold", at, 0);
    Values sums{k.fillRows(0), k.fillRows(0)};
    k.eachSet([&] {
      auto source = k.program("forward"), dots = k.program("backward");
      sums = k.loop(tile::Range::Keys, at.b, at.h, at.index, sums, [&](Value kt, Value full, mlir::ValueRange carried) {
        Values tiles = k.dotTiles(dots, queries, at, kt);
        auto parts = k.pairwise(at, {kt, full}, tiles, {peak, threshold}, {tile::Reduction::Add, tile::Reduction::Add},
                                [&](auto &args) {
                                  const auto bindings = KernelBuilder::bindTiles(dots, args.tiles);
                                  auto named = k.clone(source, at, args.i, args.j, bindings);
                                  Value counts = KernelBuilder::counting(named), zero = s.constant(0);
                                  Value x = s.select(counts, root(s, named["score"], args.rows[0], args.rows[1]), zero);
                                  Value dp = bindings.at({"do", k.set->values});
                                  if (Value factor = k.outputFactor(named)) dp = s.mul(dp, factor);
                                  return Values{s.select(counts, s.mul(x, dp), zero), x};
                                });
        return Values{k.addedRows(at, carried[0], parts[0]), k.addedRows(at, carried[1], parts[1])};
      });
    });
    Value delta = k.rowwise(at, sums, 1, [&](mlir::ValueRange args) { return Values{ratio(s, args[1], args[2])}; })[0];
    k.storeRows(delta, "delta", at);
  }

  PairDerivative derivative(const PairTerms &pair) const override {
    ScalarBuilder &s = pair.s;
    Value x = root(s, pair.score, pair.row("peak"), pair.row("threshold"));
    PairDerivative own;
    own.e = s.mul(s.mul(x, x), pair.row("scale"));
    own.dp = s.sub(pair.dp, pair.row("delta"));
    own.slope = s.mul(x, own.dp);
    return own;
  }

 private:
  /// The greatest score of each row; 0 where there is none.
  static Value peakOf(KernelBuilder &k, const QueryTile &at, const std::map<std::string, Value> &queries) {
    ScalarBuilder &s = k.s;
    Value peak = k.fillRows(-infinity);
    k.eachSet([&] {
      auto source = k.program("forward");
      peak = k.loop(tile::Range::Keys, at.b, at.h, at.index, peak, [&](Value kt, Value full, mlir::ValueRange carried) {
        Values tiles = k.dotTiles(source, queries, at, kt);
        Value top = k.pairwise(at, {kt, full}, tiles, {}, {tile::Reduction::Max}, [&](auto &args) {
          auto named = k.clone(source, at, args.i, args.j, KernelBuilder::bindTiles(source, args.tiles));
          return Values{s.select(KernelBuilder::counting(named), named["score"], s.constant(-infinity))};
        })[0];
        return k.rowwise(at, {carried[0], top}, 1,
                         [&](mlir::ValueRange args) { return Values{s.map(Function::Max, {args[1], args[2]})}; });
      })[0];
    });
    return k.rowwise(at, peak, 1, [&](mlir::ValueRange args) {
      Value none = s.map(Function::Eq, {args[1], s.constant(-infinity)});
      return Values{s.select(none, s.constant(0), args[1])};
    })[0];
  }

  /// One more step: t + (F - sqrt(F)) / (sum of x), F the sum of x^2.
  static Value newton(KernelBuilder &k, const QueryTile &at, const std::map<std::string, Value> &queries, Value peak,
                      Value threshold) {
    ScalarBuilder &s = k.s;
    Values sums{k.fillRows(0), k.fillRows(0)};
    k.eachSet([&] {
      auto source = k.program("forward");
      sums = k.loop(tile::Range::Keys, at.b, at.h, at.index, sums, [&](Value kt, Value full, mlir::ValueRange carried) {
        Values tiles = k.dotTiles(source, queries, at, kt);
        auto parts =
            k.pairwise(at, {kt, full}, tiles, {peak, threshold}, {tile::Reduction::Add, tile::Reduction::Add},
                       [&](auto &args) {
                         auto named = k.clone(source, at, args.i, args.j, KernelBuilder::bindTiles(source, args.tiles));
                         Value x = s.select(KernelBuilder::counting(named),
                                            root(s, named["score"], args.rows[0], args.rows[1]), s.constant(0));
                         return Values{s.mul(x, x), x};
                       });
        return Values{k.addedRows(at, carried[0], parts[0]), k.addedRows(at, carried[1], parts[1])};
      });
    });
    return k.rowwise(at, {threshold, sums[0], sums[1]}, 1, [&](mlir::ValueRange args) {
      return Values{s.add(args[1], ratio(s, s.sub(args[2], s.map(Function::Sqrt, {args[2]})), args[3]))};
    })[0];
  }
};

}  // namespace

const Normalizer &entmax15Normalizer() {
  static const Entmax15 entmax15;
  return entmax15;
}

}  // namespace weft
