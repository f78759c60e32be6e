// stick_breaking: p_ij = m w sigmoid(s_ij) times the product over kept keys after j of (1 - sigmoid(s_ik)).
//
// That product is exp(-after), after the sum of softplus(s) over the kept keys after j. Forward goes from the newest
// key to the oldest and carries it. Backward: each kept score also shortens the stick of the keys before it, so ds = p
// dp (1 - sigmoid(s)) - sigmoid(s) before, with before the sum of p dp over the keys before j.
#include "compiler/normalizers/normalizer.h"

namespace weft {

/// `after` and `before` as above.
static constexpr RowState stickRows[] = {{"after", 0, RowState::Source::Keys}, {"before", 0, RowState::Source::Keys}};
extern constexpr NormalizerFacts stickBreakingFacts{.name = "stick_breaking", .ordered = true, .rows = stickRows};

namespace {

using mlir::Value;
using Values = std::vector<Value>;

/// Stick breaking at one tile, before the keys of other tiles count: softplus(s) of kept pairs summed over the tile's
/// keys after each one, its sum over all, and the pieces as if they came first (in the backward pass p dp).
struct Stick {
  Value after, total, pieces;
};

std::pair<Value, Value> scanSum(KernelBuilder &k, tile::ScanSide side, Value tile, Value keys) {
  auto op = tile::ScanSumOp::create(k.builder, k.s.loc, tile.getType(), k.tileType({k.shape.tileQ}), side, tile, keys);
  return {op.getSums(), op.getTotals()};
}

/// `tiles` are the dots of `dots`; where do . v is one of them, pieces carry dp.
Stick breakStick(KernelBuilder &k, dialect::PairwiseOp dots, mlir::ValueRange tiles, const QueryTile &at,
                 const KeyTile &keys) {
  ScalarBuilder &s = k.s;
  auto source = k.program("forward");
  auto parts = k.pairwise(at, keys, tiles, {}, {}, [&](auto &args) {
    const auto bindings = KernelBuilder::bindTiles(dots, args.tiles);
    auto named = k.clone(source, at, args.i, args.j, bindings);
    Value counts = KernelBuilder::counting(named), piece = s.map(Function::Sigmoid, {named["score"]});
    if (Value weight = named.lookup("weight")) piece = s.mul(piece, weight);
    if (Value factor = k.outputFactor(named)) piece = s.mul(piece, factor);
    if (auto found = bindings.find({"do", k.set->values}); found != bindings.end()) piece = s.mul(piece, found->second);
    Value zero = s.constant(0);
    return Values{s.select(counts, s.map(Function::Softplus, {named["score"]}), zero), s.select(counts, piece, zero)};
  });
  auto [after, total] = scanSum(k, tile::ScanSide::After, parts[0], keys.index);
  return {after, total, parts[1]};
}

/// The pieces, once the keys of the tiles after this one (`sum` of their softplus(s)) have taken theirs, and the sum
/// over all keys after each pair.
Values shortened(KernelBuilder &k, const Stick &stick, Value sum, const QueryTile &at, const KeyTile &keys) {
  ScalarBuilder &s = k.s;
  return k.pairwise(at, keys, {stick.pieces, stick.after}, {sum}, {}, [&](auto &args) {
    Value after = s.add(args.tiles[1], args.rows[0]);
    return Values{s.mul(args.tiles[0], s.map(Function::Exp, {s.neg(after)})), after};
  });
}

/// A sum of rows in two floats, the second what the first has lost: differences of such sums stay exact.
std::array<Value, 2> addTwice(KernelBuilder &k, const QueryTile &at, Value high, Value low, Value added) {
  ScalarBuilder &s = k.s;
  auto sum = k.rowwise(at, {high, low, added}, 2, [&](mlir::ValueRange args) {
    // Knuth's two-sum.
    Value x = args[1], y = args[3], total = s.add(x, y), part = s.sub(total, x);
    Value lost = s.add(s.sub(x, s.sub(total, part)), s.sub(y, part));
    return Values{total, s.add(args[2], lost)};
  });
  return {sum[0], sum[1]};
}

class StickBreaking : public Normalizer {
 public:
  void forward(KernelBuilder &k, const QueryTile &at) const override {
    const std::map<std::string, Value> queries = k.forwardQueries(at);
    Values sums{k.fill(0, {k.shape.tileQ, k.columns("v")}), k.fillRows(0)};
    k.eachSet([&] {
      auto source = k.program("forward");
      sums = k.loop(tile::Range::KeysDescending, at.b, at.h, at.index, sums,
                    [&](Value kt, Value full, mlir::ValueRange carried) {
                      Values tiles = k.dotTiles(source, queries, at, kt);
                      Value values = k.load(k.set->values, at.b, at.h, kt, tile::Side::Key);
                      Stick stick = breakStick(k, source, tiles, at, {kt, full});
                      Value pieces = shortened(k, stick, carried[1], at, {kt, full})[0];
                      return Values{k.dot(tile::DotForm::NN, pieces, values, carried[0]),
                                    k.addedRows(at, carried[1], stick.total)};
                    });
    });
    k.store(sums[0], "o", at.b, at.h, at.index);
    k.storeRows(k.fillRows(0), "lse", at);
  }

  PairDerivative derivative(const PairTerms &pair) const override {
    ScalarBuilder &s = pair.s;
    Value sigmoid = s.map(Function::Sigmoid, {pair.score});
    PairDerivative own;
    own.e = s.mul(sigmoid, s.map(Function::Exp, {s.neg(pair.row("after"))}));
    own.dp = pair.dp;
    Value whole = s.mul(s.mul(own.e, own.dp), pair.weight);
    own.slope = s.sub(s.mul(whole, s.sub(s.constant(1), sigmoid)), s.mul(sigmoid, pair.row("before")));
    return own;
  }

  /// Of each row, softplus(s) summed over all kept keys, in two floats. Backward passes go from the oldest key to the
  /// newest, where the sum over the keys after a tile is what this leaves: pieces of old keys are small, and summed up
  /// first. Carried: the same over the keys so far, and the sum of p dp.
  KeySums beforeKeys(KernelBuilder &k, const QueryTile &at, QuerySide &query) const override {
    auto source = k.program("forward");
    KeySums sums;
    sums.whole = k.loop(tile::Range::Keys, at.b, at.h, at.index, {k.fillRows(0), k.fillRows(0)},
                        [&](Value kt, Value full, mlir::ValueRange carried) {
                          Stick stick = breakStick(k, source, k.dotTiles(source, query.tiles, at, kt), at, {kt, full});
                          const auto sum = addTwice(k, at, carried[0], carried[1], stick.total);
                          return Values{sum[0], sum[1]};
                        });
    for (int sum = 0; sum < 3; ++sum) sums.carried.push_back(k.fillRows(0));
    return sums;
  }

  PairOperands atKeys(KernelBuilder &k, const QueryTile &at, const KeyTile &keys, const QuerySide &,
                      const Values &tiles, KeySums &sums) const override {
    ScalarBuilder &s = k.s;
    Value &high = sums.carried[0], &low = sums.carried[1], &seen = sums.carried[2];
    Stick own = breakStick(k, k.program("backward"), tiles, at, keys);
    const auto sum = addTwice(k, at, high, low, own.total);
    high = sum[0];
    low = sum[1];
    Value left = k.rowwise(at, {sums.whole[0], sums.whole[1], high, low}, 1, [&](mlir::ValueRange args) {
      return Values{s.add(s.sub(args[1], args[3]), s.sub(args[2], args[4]))};
    })[0];
    auto pieces = shortened(k, own, left, at, keys);
    auto [before, total] = scanSum(k, tile::ScanSide::Before, pieces[0], keys.index);
    PairOperands operands{{pieces[1], before}, {seen}, [&s](mlir::ValueRange elements, mlir::ValueRange rows) {
                            return std::map<std::string, Value>{{"after", elements[0]},
                                                                {"before", s.add(rows[0], elements[1])}};
                          }};
    seen = k.addedRows(at, seen, total);
    return operands;
  }
};

}  // namespace

const Normalizer &stickBreakingNormalizer() {
  static const StickBreaking stickBreaking;
  return stickBreaking;
}

}  // namespace weft
