// softmax: p = m w exp(s) / (exp(c) + sum of m w exp(s)), c a sink, where there is one.
//
// Online (Milakov and Gimelshein 2018): a row carries its peak and the mass below it, in base 2, and with weights their
// shift. Backward: ds = p (dp - delta).
#include "compiler/normalizers/softmax.h"

#include <cmath>
#include <limits>
#include <numbers>

#include "compiler/internal_error.h"
#include "llvm/ADT/STLExtras.h"

namespace weft {

extern constexpr NormalizerFacts softmaxFacts{.name = "softmax",
                                              .logSumExp = true,
                                              .sink = true,
                                              .delta = true,
                                              .joining = Joining::LogSumExp,
                                              .rows = softmaxRows};

namespace {

using mlir::Value;
using Values = std::vector<Value>;
constexpr double infinity = std::numeric_limits<double>::infinity();

/// The softmax of one tile of queries.
class SoftmaxRows {
 public:
  /// `factor`: Softmax::scoreFactor.
  SoftmaxRows(KernelBuilder &k, const QueryTile &at, Value score, Value factor)
      : k(k),
        s(k.s),
        at(at),
        factor(factor),
        inRange(factor && ScalarBuilder::isSmall(withoutFactor(score), factor)),
        weighted(isWeighted(k.module)),
        inOneFma(k.shape.sharedRows && k.shape.type != ElementType::F32 && !inRange),
        queries(k.forwardQueries(at)) {}

  bool isWeightedRow() const { return weighted; }

  /// The output's sum, the peak, the mass and, with weights, the shift.
  Values start(llvm::function_ref<Value(Value)> sink) {
    Value acc = k.fill(0, {k.shape.tileQ, k.columns("v")});
    parts = k.shape.sharedRows && (weighted || !sink);
    finite = k.shape.sharedRows && !weighted && !sink;
    if (weighted) return {acc, k.fillRows(-infinity), k.fillRows(0), k.fillRows(raised())};
    // Less than any score, and where factors are multiplied with it (inRange) no infinity.
    const double least = inRange ? -0x1p100 : std::numeric_limits<float>::lowest();
    if (!sink) return {acc, k.fillRows(finite ? least : -infinity), k.fillRows(0)};
    Values rows = k.rowwise(at, {}, 2, [&](mlir::ValueRange args) { return Values{sink(args[0]), s.constant(1)}; });
    return {acc, rows[0], rows[1]};
  }

  /// Those sums with one more tile of keys.
  Values step(const KeyTile &keys, mlir::ValueRange carried) {
    auto source = k.program("forward");
    Values tiles = k.dotTiles(source, queries, at, keys.index);
    Value values = k.load(k.set->values, at.b, at.h, keys.index, tile::Side::Key);
    // First pass: logits, with -inf where the pair does not count, and their row maxima.
    const bool ownWeight = hasResult(source, "weight"), gated = KernelBuilder::hasFactor(source);
    llvm::SmallVector<tile::Reduction, 2> maxima(ownWeight ? 2 : 1, tile::Reduction::Max);
    auto logits = k.pairwise(at, keys, tiles, {}, maxima, [&](auto &args) {
      auto results = k.clone(source, at, args.i, args.j, KernelBuilder::bindTiles(source, args.tiles));
      Value counts = KernelBuilder::counting(results);
      Values out;
      Value score = factor ? withoutFactor(results["score"]) : results["score"];
      out.push_back(s.select(counts, score, s.constant(-infinity)));
      for (Value factor : {results.lookup("weight"), k.outputFactor(results)})
        if (factor) out.push_back(s.select(counts, factor, s.constant(0)));
      out.push_back(out[0]);
      if (ownWeight) out.push_back(out[1]);
      return out;
    });
    const size_t passedOn = logits.size() - maxima.size();
    Values stepRows{carried[1], logits[passedOn], carried[2]};
    if (weighted) stepRows.insert(stepRows.end(), {carried[3], ownWeight ? logits[passedOn + 1] : k.fillRows(1)});
    // What is multiplied with p, in f16 too, is then as great as it may be.
    const bool lagging = k.shape.sharedRows && !weighted && !gated;
    auto step = k.rowwise(at, stepRows, weighted ? 5 : 4, [&](mlir::ValueRange args) {
      auto [top, finite] = lagging ? muchHigherPeak(args[1], args[2]) : higherPeak(args[1], args[2]);
      Values out{top, finite, decay(args[1], finite)};
      if (!weighted) {
        out.push_back(s.mul(args[3], out[2]));
      } else {
        auto [shift, change] = lowerShift(args[4], shiftOf(args[5]));
        out[2] = s.mul(out[2], change);
        out.insert(out.end(), {s.mul(args[3], out[2]), shift});
      }
      return out;
    });
    // Second pass: probabilities against the running maximum, and their row sums.
    Values second(logits.begin(), logits.begin() + passedOn), secondRows{step[1]};
    if (inOneFma) {
      Value scales = k.rowwise(at, {}, 1, [&](mlir::ValueRange) { return Values{baseTwo()}; })[0];
      auto below = tile::BelowPeakOp::create(k.builder, s.loc, second[0].getType(), scales.getType(), second[0],
                                             step[1], scales);
      second[0] = below.getDifferences();
      secondRows[0] = below.getProducts();
    }
    if (weighted) secondRows.push_back(step[4]);
    auto program = [&](auto &args) {
      Value p = inOneFma ? s.exp2Below(args.tiles[0], args.rows[0], baseTwo())
                : factor ? s.expBelowPeak(args.tiles[0], args.rows[0], s.copyOfUniform(factor), inRange)
                         : s.expOfDifference(args.tiles[0], args.rows[0]);
      // First the weight and its shift: either can be too large or small for p.
      if (weighted) p = s.mul(ownWeight ? s.mul(args.tiles[1], args.rows[1]) : args.rows[1], p);
      Value output = gated ? s.mul(p, args.tiles.back()) : p;
      return Values{output, p};
    };
    Values probabilities = k.pairwise(at, keys, second, secondRows, {tile::Reduction::Add}, program, parts);
    Value scaled = k.scaleRows(carried[0], step[2]);
    Value sum = k.addedRows(at, step[3], probabilities[1]);
    Values next{k.dot(tile::DotForm::NN, probabilities[0], values, scaled), step[0], sum};
    if (weighted) next.push_back(step[4]);
    return next;
  }

  /// Behind the last tile.
  void addParts(Values &sums) {
    if (parts) sums[2] = tile::AddPartsOp::create(k.builder, s.loc, sums[2].getType(), sums[2]);
  }

  /// Last, when the shift of the pairs' weights is known.
  void addWeightedSink(Values &sums, llvm::function_ref<Value(Value)> sink) {
    auto with = k.rowwise(at, llvm::ArrayRef(sums).drop_front(), 4, [&](mlir::ValueRange args) {
      auto [score, weight] = s.weightedSink(sink(args[0]));
      auto [top, finite] = higherPeak(args[1], score);
      // The sink's weight may be as great as the shift of tiny ones.
      auto [shift, change] =
          lowerShift(args[3], s.div(s.constant(raised()), s.map(Function::Max, {weight, s.constant(1)})));
      Value kept = s.mul(s.expOfDifference(args[1], finite), change);
      Value own = s.mul(s.mul(weight, shift), s.expOfDifference(score, finite));
      return Values{top, s.add(s.mul(args[2], kept), own), shift, kept};
    });
    Value scaled = k.scaleRows(sums[0], with[3]);
    sums = {scaled, with[0], with[1], with[2]};
  }

  void finish(const Values &sums) {
    // The backward pass takes probabilities from the peak and the scale apart: the log-sum-exp is rounded at its own
    // size.
    auto last = k.rowwise(at, llvm::ArrayRef(sums).drop_front(), 3, [&](mlir::ValueRange args) {
      Value some = s.map(Function::Not, {s.map(Function::Le, {args[2], s.constant(0)})});
      Value inverse = s.select(some, s.div(s.constant(1), args[2]), s.constant(0));
      Value logarithm = weighted ? logarithmOf(args[2], args[3]) : s.map(Function::Log, {args[2]});
      Value peak = factor ? s.mul(args[1], s.copyOfUniform(factor)) : args[1];
      Value lse = s.select(some, s.add(peak, logarithm), s.constant(-infinity));
      // Of a row that keeps no key each probability is an exact zero.
      return Values{inverse, lse, s.select(some, args[1], s.constant(infinity))};
    });
    k.store(k.scaleRows(sums[0], last[0]), "o", at.b, at.h, at.index);
    k.storeRows(last[1], "lse", at);
    k.storeRows(last[2], "row.peak", at);
    k.storeRows(last[0], "row.scale", at);
    if (weighted) k.storeRows(sums[3], "row.shift", at);
  }

 private:
  KernelBuilder &k;
  ScalarBuilder &s;
  QueryTile at;
  Value factor;  ///< in the pairwise program
  bool inRange;  ///< scores are small, whatever the inputs are
  bool weighted;
  bool inOneFma;        ///< scores and peaks are taken apart by tile.below_peak
  bool parts = false;   ///< masses are parts of threads until addParts
  bool finite = false;  ///< peaks are from the start
  std::map<std::string, Value> queries;

  /// What scores are multiplied by as exponents of 2.
  Value baseTwo() {
    return factor ? s.mul(s.copyOfUniform(factor), s.constant(std::numbers::log2e)) : s.constant(std::numbers::log2e);
  }
  static Value withoutFactor(Value score) {
    auto [x, own] = ScalarBuilder::uniformFactor(score);
    internalCheck(own != nullptr, "softmax", "a score lost the factor that its exponent has");
    return x;
  }
  /// What a row's sums are multiplied by when its peak rises.
  Value decay(Value before, Value peak) {
    if (!factor) return s.expOfDifference(before, peak);
    Value scale = baseTwo();
    // Where pairs subtract a rounded peak (ScalarBuilder::expBelowPeak), so does this.
    if (inRange) return s.exp2(s.sub(s.mul(before, scale), s.mul(peak, scale)));
    return s.exp2(s.mul(s.sub(before, peak), scale));
  }

  /// The kernels count numbers below 2^-126 as zero, and sums end at 2^128. So a row multiplies its weights by a power
  /// of two, its shift, where the greatest of them is very small or great: here the greatest shift. As operands of
  /// products in f16 they have to be near 1.
  double raised() { return k.shape.type == ElementType::F16 ? 0x1p112 : 0x1p64; }

  /// That of a row with weights up to `greatest`.
  Value shiftOf(Value greatest) {
    if (k.shape.type != ElementType::F16) {
      Value lowered = s.select(s.map(Function::Gt, {greatest, s.constant(0x1p96)}), s.constant(0x1p-32), s.constant(1));
      return s.select(s.map(Function::Lt, {greatest, s.constant(0x1p-40)}), s.constant(raised()), lowered);
    }
    Value exponent =
        s.map(Function::ToFloat,
              {s.map(Function::Round, {s.mul(s.map(Function::Log, {greatest}), s.constant(std::numbers::log2e))})});
    Value beyond = s.sub(exponent, s.map(Function::Clamp, {exponent, s.constant(-2), s.constant(6)}));
    return s.exp2(s.map(Function::Clamp, {s.neg(beyond), s.constant(-124), s.constant(std::log2(raised()))}));
  }

  /// A row's shift under one more bound, and what that multiplies its sums by.
  std::pair<Value, Value> lowerShift(Value before, Value bound) {
    Value shift = s.map(Function::Min, {before, bound});
    return {shift, s.div(shift, before)};
  }

  /// A row's peak with one more score, and what is taken from scores: 0 where there is none yet.
  std::pair<Value, Value> higherPeak(Value before, Value score) {
    return withFinite(s.map(Function::Max, {before, score}));
  }
  std::pair<Value, Value> withFinite(Value top) {
    if (finite) return {top, top};
    Value none = s.map(Function::Eq, {top, s.constant(-infinity)});
    return {top, s.select(none, s.constant(0), top)};
  }

  /// The same, of a peak that only rises where p would be more than 2^8: what is summed up is then seldom scaled
  /// (FlashAttention-4).
  std::pair<Value, Value> muchHigherPeak(Value before, Value score) {
    constexpr double most = 8 * std::numbers::ln2;
    Value room = factor ? s.div(s.constant(most), s.copyOfUniform(factor)) : s.constant(most);
    Value higher = s.map(Function::Gt, {score, s.add(before, room)});
    return withFinite(s.select(higher, score, before));
  }

  /// Of a sum of shifted weights: that of the weights, also where their own sum is no f32.
  Value logarithmOf(Value mass, Value shift) {
    Value sum = s.div(mass, shift);
    Value fits = s.map(Function::And, {s.map(Function::Gt, {sum, s.constant(0x1p-100)}),
                                       s.map(Function::Lt, {sum, s.constant(0x1p127)})});
    Value logarithm = s.map(Function::Log, {s.select(fits, sum, mass)});
    return s.select(fits, logarithm, s.sub(logarithm, s.map(Function::Log, {shift})));
  }
};

}  // namespace

bool Softmax::hasSink(mlir::ModuleOp module) const { return module.lookupSymbol("sink") != nullptr; }

Value Softmax::scoreFactor(mlir::ModuleOp module, Value score) const {
  if (hasSink(module) || describedSets(module).size() > 1) return {};
  return ScalarBuilder::uniformFactor(score).second;
}

Value Softmax::sink(KernelBuilder &k, const QueryTile &at, Value i) const {
  return k.clone(k.sink("sink"), at, i, i, {})["sink"];
}

void Softmax::forward(KernelBuilder &k, const QueryTile &at) const {
  Value score = resultOf(k.program("forward"), "score");
  SoftmaxRows rows(k, at, score, scoreFactor(k.module, score));
  auto clonedSink = [&](Value i) { return sink(k, at, i); };
  llvm::function_ref<Value(Value)> own;
  if (hasSink(k.module)) own = clonedSink;
  Values sums = rows.start(own);
  k.eachSet([&] {
    sums = k.loop(tile::Range::Keys, at.b, at.h, at.index, sums,
                  [&](Value kt, Value full, mlir::ValueRange carried) { return rows.step({kt, full}, carried); });
  });
  rows.addParts(sums);
  if (rows.isWeightedRow() && own) rows.addWeightedSink(sums, own);
  rows.finish(sums);
}

void Softmax::delta(KernelBuilder &k, const QueryTile &at) const {
  Value product = tile::RowDotOp::create(k.builder, k.s.loc, k.tileType({k.shape.tileQ}),
                                         k.load("do", at.b, at.h, at.index, tile::Side::Query),
                                         k.load("o", at.b, at.h, at.index, tile::Side::Query));
  Value delta = k.rowwise(at, {product, k.loadRows("dlse", at, 0)}, 1,
                          [&](mlir::ValueRange args) { return Values{k.s.sub(args[1], args[2])}; })[0];
  k.storeRows(delta, "delta", at);
}

PairDerivative Softmax::derivative(const PairTerms &pair) const {
  ScalarBuilder &s = pair.s;
  PairDerivative own;
  auto module = s.builder.getInsertionBlock()->getParentOp()->getParentOfType<mlir::ModuleOp>();
  Value factor = scoreFactor(module, pair.score);
  if (factor) {
    Value x = ScalarBuilder::uniformFactor(pair.score).first;
    own.e = s.expBelowPeak(x, pair.row("peak"), factor, ScalarBuilder::isSmall(x, factor));
  } else {
    own.e = s.expOfDifference(pair.score, pair.row("peak"));
  }
  Value scale = pair.row("scale");
  own.shift = pair.weighted ? pair.row("shift") : s.constant(1);
  // Each can be too large or small for p; so ordered no product is.
  own.p = s.mul(s.mul(s.mul(pair.weight, own.shift), own.e), scale);
  own.e = s.mul(own.e, scale);
  own.dp = s.sub(pair.dp, pair.row("delta"));
  own.slope = s.mul(own.p, own.dp);
  return own;
}

Value Softmax::sinkCotangent(const PairTerms &row, Value c) const {
  ScalarBuilder &s = row.s;
  auto [score, weight] = row.weighted ? s.weightedSink(c) : std::pair(c, s.constant(1));
  if (row.weighted) weight = s.mul(weight, row.row("shift"));
  Value mass = s.mul(weight, s.expOfDifference(score, row.row("peak")));
  mass = s.mul(mass, row.row("scale"));
  return s.neg(s.mul(mass, row.row("delta")));
}

const Normalizer &softmaxNormalizer() {
  static const Softmax softmax;
  return softmax;
}

}  // namespace weft
