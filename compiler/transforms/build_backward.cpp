#include "compiler/transforms/build_backward.h"

#include "compiler/normalizers/normalizer.h"
#include "llvm/ADT/STLExtras.h"

namespace weft {

using dialect::Dependence;
namespace {

using mlir::Value;
using Values = KernelBuilder::Values;

/// What a tile of pairs passes back: the factor of v, and the cotangents of dots.
struct Gradients {
  Value factor;
  std::vector<std::pair<DotPair, Value>> dots;
};

/// value without the factor that it has at every pair, a mask around it kept; null without one.
std::pair<Value, Value> splitFactor(ScalarBuilder &s, Value value) {
  auto select = value.getDefiningOp<dialect::MapOp>();
  const bool masked =
      select && select.function() == Function::Select && dialect::constantOf(select.getArgs()[2]) == 0.0;
  auto [x, factor] = ScalarBuilder::uniformFactor(masked ? select.getArgs()[1] : value);
  if (factor && masked) x = s.select(select.getArgs()[0], x, s.constant(0));
  return {x, factor};
}

class BackwardBuilder {
 public:
  /// `atomic`: what is added to rows in memory, other programs add to as well.
  explicit BackwardBuilder(KernelBuilder &k, bool atomic = false)
      : k(k), normalizer(normalizerOf(k.module)), atomic(atomic) {}

  /// Everything a query tile contributes: its own gradients, and with `keys` those of the key side.
  void queryPass(const QueryTile &at, bool keys, llvm::ArrayRef<dialect::Dependence> accumulate) {
    QuerySide query = querySide(at);
    std::vector<std::string> names;
    Values sums;
    k.eachSet([&] {
      k.loadQueries(KernelBuilder::dotsOf(k.program("backward")), at, query.tiles);
      k.program("backward").walk([&](dialect::CotangentOp op) {
        if (llvm::is_contained(names, op.getQuery())) return;
        names.push_back(op.getQuery().str());
        sums.push_back(k.fill(0, {k.shape.tileQ, k.columns(names.back())}));
      });
    });
    k.eachSet([&] { sums = queryPassKeys(query, names, sums, at, keys, accumulate); });
    for (auto [name, value] : llvm::zip(names, sums)) k.store(scaled(value), "d" + name, at.b, at.h, at.index);
    sinkPass(at, query);
  }

  /// What a query tile contributes to the sink, with the rows of the set at hand.
  void sinkPass(const QueryTile &at) { sinkPass(at, querySide(at)); }

  /// Everything that tiles of queries contribute to a key tile; with `queries` also what it does to their gradients.
  void keyPass(Value b, Value g, Value kt, bool queries, llvm::ArrayRef<dialect::Dependence> accumulate) {
    auto source = k.program("backward");
    std::vector<std::pair<std::string, Value>> inits = {
        {k.set->values, k.fill(0, {k.shape.tileK, k.columns(k.set->values)}, tile::Side::Key)}};
    for (const std::string &name : keyInputs(source))
      if (name != k.set->values) inits.push_back({name, k.fill(0, {k.shape.tileK, k.columns(name)}, tile::Side::Key)});
    Values values;
    for (auto &[name, value] : inits) values.push_back(value);
    // The gradients are carried over the heads of the group and the query tiles that keep this one.
    auto sums = k.loop(tile::Range::Heads, b, g, g, values, [&](Value h, Value, mlir::ValueRange heads) {
      return k.loop(tile::Range::KeptQueries, b, h, kt, heads, [&](Value qt, Value full, mlir::ValueRange carried) {
        const QueryTile at{b, h, qt};
        QuerySide query = querySide(at);
        auto tiles = k.dotTiles(source, query.tiles, at, kt);
        Gradients gradients = gradientTiles(source, tiles, loadedOperands(query), at, {kt, full}, accumulate, !queries);
        Values next(carried.begin(), carried.end());
        next[0] = k.dot(tile::DotForm::TN, gradients.factor, query.tiles["do"], next[0]);
        for (auto &[pair, ds] : gradients.dots)
          for (size_t n = 1; n < inits.size(); ++n)
            if (inits[n].first == pair.second) next[n] = k.dot(tile::DotForm::TN, ds, query.tiles[pair.first], next[n]);
        if (queries)
          for (auto &[pair, ds] : gradients.dots)
            into(tile::DotForm::NN, ds, k.keyTiles[pair.second], pair.first, at, qt);
        return next;
      });
    });
    for (size_t n = 0; n < inits.size(); ++n) k.store(n ? scaled(sums[n]) : sums[n], "d" + inits[n].first, b, g, kt);
  }

 private:
  KernelBuilder &k;
  const Normalizer &normalizer;
  const bool atomic;
  double scale = 1;  ///< of the sums of cotangents of dots, once they are whole

  void sinkPass(const QueryTile &at, const QuerySide &query) {
    if (!k.sink("sink_backward")) return;
    k.rowwise(at, query.rows, 0, [&](mlir::ValueRange args) {
      k.clone(k.sink("sink_backward"), at, args[0], args[0], {}, loadedOperands(query).named({}, args.drop_front()),
              {Dependence::Head});
      return Values{};
    });
  }

  Value scaled(Value sum) { return scale == 1 ? sum : k.scale(sum, scale); }

  static std::vector<std::string> keyInputs(dialect::PairwiseOp source) {
    std::vector<std::string> names;
    source.walk([&](dialect::CotangentOp op) {
      if (!llvm::is_contained(names, op.getKey())) names.push_back(op.getKey().str());
    });
    return names;
  }

  /// With the operands of the set at hand.
  QuerySide querySide(const QueryTile &at) {
    QuerySide side;
    k.loadQueries(KernelBuilder::dotsOf(k.program("backward")), at, side.tiles);
    k.loadQueries(DotPair{"do", k.set->values}, at, side.tiles);
    for (const RowState &row : loadedRows(k.module)) {
      side.names.push_back(row.name);
      side.rows.push_back(k.loadRows(row.tensor(), at, row.fill));
    }
    return side;
  }

  Gradients gradientTiles(dialect::PairwiseOp source, const Values &dots, const PairOperands &operands,
                          const QueryTile &at, const KeyTile &keys, llvm::ArrayRef<dialect::Dependence> accumulate,
                          bool sumsAreOwn) {
    Values tiles = dots;
    tiles.insert(tiles.end(), operands.tiles.begin(), operands.tiles.end());
    std::vector<DotPair> order;
    auto out = k.pairwise(at, keys, tiles, operands.rows, {}, [&](auto &args) {
      KernelBuilder::Bindings cotangents;
      auto named = k.clone(source, at, args.i, args.j, KernelBuilder::bindTiles(source, args.tiles),
                           operands.named(args.tiles.drop_front(dots.size()), args.rows), accumulate, &cotangents);
      Values values{named["value"]};
      for (auto &[pair, value] : cotangents) {
        order.push_back(pair);
        values.push_back(value);
      }
      if (sumsAreOwn) scale = takeScale(values);
      return values;
    });
    Gradients gradients{out[0], {}};
    for (size_t n = 0; n < order.size(); ++n) gradients.dots.push_back({order[n], out[n + 1]});
    return gradients;
  }

  /// Takes from the cotangents of dots, the values from the second on, a factor that all pairs and all of them have in
  /// common: the sums can have it at the end. Where sums of several sets of keys meet, none.
  double takeScale(Values &values) {
    if (k.sets.size() > 1 || values.size() != 2) return 1;
    auto [x, factor] = splitFactor(k.s, values[1]);
    const std::optional<double> known = factor ? k.knownValue(factor) : std::nullopt;
    if (!known) return 1;
    values[1] = x;
    return *known;
  }

  /// What the keys of one set add to the gradients of the query side, `names`.
  Values queryPassKeys(QuerySide &query, const std::vector<std::string> &names, Values inits, const QueryTile &at,
                       bool keys, llvm::ArrayRef<dialect::Dependence> accumulate) {
    auto source = k.program("backward");
    KeySums sums = normalizer.beforeKeys(k, at, query);
    inits.insert(inits.end(), sums.carried.begin(), sums.carried.end());
    Values done =
        k.loop(tile::Range::Keys, at.b, at.h, at.index, inits, [&](Value kt, Value full, mlir::ValueRange carried) {
          auto tiles = k.dotTiles(source, query.tiles, at, kt);
          Values next(carried.begin(), carried.begin() + names.size());
          sums.carried.assign(carried.begin() + names.size(), carried.end());
          const PairOperands operands = normalizer.atKeys(k, at, {kt, full}, query, tiles, sums);
          Gradients gradients = gradientTiles(source, tiles, operands, at, {kt, full}, accumulate, !keys);
          if (keys) {
            into(tile::DotForm::TN, gradients.factor, query.tiles["do"], k.set->values, at, kt);
            for (auto &[pair, ds] : gradients.dots)
              into(tile::DotForm::TN, ds, query.tiles[pair.first], pair.second, at, kt);
          }
          for (auto &[pair, ds] : gradients.dots)
            for (size_t n = 0; n < names.size(); ++n)
              if (names[n] == pair.first) next[n] = k.dot(tile::DotForm::NN, ds, k.keyTiles[pair.second], next[n]);
          next.insert(next.end(), sums.carried.begin(), sums.carried.end());
          return next;
        });
    done.resize(names.size());
    return done;
  }

  void into(tile::DotForm form, Value lhs, Value rhs, const std::string &name, const QueryTile &at, Value index) {
    tile::DotIntoOp::create(k.builder, k.s.loc, form, lhs, rhs, atomic, "d" + name, at.b, at.h, index);
  }
};

constexpr Dependence allSums[] = {Dependence::Head, Dependence::Query, Dependence::Key, Dependence::Any};

}  // namespace

void buildBackward(KernelBuilder &k) {
  k.begin("backward", tile::Grid::Group);
  Value b = k.arg(0), g = k.arg(1);
  auto heads = [&](Value b) {
    k.loop(tile::Range::Heads, b, g, g, {}, [&](Value h, Value, mlir::ValueRange) {
      k.loop(tile::Range::Queries, b, h, h, {}, [&](Value qt, Value, mlir::ValueRange) {
        BackwardBuilder(k).queryPass({b, h, qt}, true, allSums);
        return Values{};
      });
      return Values{};
    });
  };
  if (describedRows(k.module) == tile::Rows::Queries) return heads(b);
  k.loop(tile::Range::Positions, b, g, b, {}, [&](Value position, Value, mlir::ValueRange) {
    heads(position);
    return Values{};
  });
}

void buildBackwardByQueries(KernelBuilder &k) {
  k.begin("backward_queries", tile::Grid::Query);
  BackwardBuilder(k, true).queryPass({k.arg(0), k.arg(1), k.arg(2)}, true, allSums);
}

void buildDq(KernelBuilder &k) {
  k.begin("backward_dq", tile::Grid::Query);
  BackwardBuilder(k).queryPass({k.arg(0), k.arg(1), k.arg(2)}, false, {Dependence::Head, Dependence::Query});
}

static void takeSet(KernelBuilder &k, llvm::StringRef keyDim) {
  for (const KeySetDescription &own : k.sets)
    if (own.dim == keyDim) k.set = &own;
}

void buildDkDv(KernelBuilder &k, llvm::StringRef keyDim) {
  takeSet(k, keyDim);
  k.begin(ofKeys("backward_dkdv", k.set->dim), tile::Grid::Key);
  BackwardBuilder(k).keyPass(k.arg(0), k.arg(1), k.arg(2), false, {Dependence::Key});
}

void buildBackwardByKeys(KernelBuilder &k, llvm::StringRef keyDim) {
  takeSet(k, keyDim);
  k.begin(ofKeys("backward_keys", k.set->dim), tile::Grid::Key);
  BackwardBuilder(k, true).keyPass(k.arg(0), k.arg(1), k.arg(2), true, allSums);
}

void buildSinkBackward(KernelBuilder &k) {
  k.begin("backward_sink", tile::Grid::Query);
  BackwardBuilder(k).sinkPass({k.arg(0), k.arg(1), k.arg(2)});
}

}  // namespace weft
