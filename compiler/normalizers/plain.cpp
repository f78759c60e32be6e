// The forward kernel of normalisers whose rows keep no state: o = sum of g p v.
#include "compiler/normalizers/plain.h"

namespace weft {

using mlir::Value;
using Values = std::vector<Value>;

void PlainNormalizer::forward(KernelBuilder &k, const QueryTile &at) const {
  ScalarBuilder &s = k.s;
  const std::map<std::string, Value> queries = k.forwardQueries(at);
  Value sum = k.fill(0, {k.shape.tileQ, k.columns("v")});
  k.eachSet([&] {
    auto source = k.program("forward");
    sum = k.loop(tile::Range::Keys, at.b, at.h, at.index, sum, [&](Value kt, Value full, mlir::ValueRange carried) {
      Values tiles = k.dotTiles(source, queries, at, kt);
      Value values = k.load(k.set->values, at.b, at.h, kt, tile::Side::Key);
      Value p = k.pairwise(at, {kt, full}, tiles, {}, {}, [&](auto &args) {
        auto named = k.clone(source, at, args.i, args.j, KernelBuilder::bindTiles(source, args.tiles));
        Value p = probability(s, named["score"]);
        if (Value weight = named.lookup("weight")) p = s.mul(p, weight);
        if (Value factor = k.outputFactor(named)) p = s.mul(p, factor);
        return Values{s.select(KernelBuilder::counting(named), p, s.constant(0))};
      })[0];
      return Values{k.dot(tile::DotForm::NN, p, values, carried[0])};
    })[0];
  });
  k.store(sum, "o", at.b, at.h, at.index);
  k.storeRows(k.fillRows(0), "lse", at);
}

}  // namespace weft
