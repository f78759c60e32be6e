// Output and gradients of a variant, row by row: what each key gets, then what it passes back.

#include <stdexcept>

#include "compiler/dims.h"
#include "compiler/language/parser.h"
#include "compiler/oracle/evaluator.h"
#include "compiler/oracle/normalizers.h"
#include "compiler/oracle/selection.h"

namespace weft::reference {
namespace {

class Attention {
 public:
  Attention(const ast::Variant &variant, const std::map<std::string, Array> &inputs,
            const std::vector<double> &cotangent)
      : variant(variant),
        inputs(inputs),
        cotangent(cotangent),
        evaluator(variant, inputs),
        normalizer(normalizerOf(*variant.normalizer)) {
    auto dim = [&](const char *name) { return evaluator.dims[name]; };
    B = dim("B"), H = dim("H"), T = dim("T"), S = dim("S");
    E = inputs.at("v").shape[3];
  }

  Result run() {
    result.o = {{B, H, T, E}, std::vector<double>(B * H * T * E, 0.0)};
    result.lse = {{B, H, T}, std::vector<double>(B * H * T, 0.0)};
    for (b = 0; b < B; ++b)
      for (h = 0; h < H; ++h) {
        const Selection selected(variant, evaluator, b, h);
        for (i = 0; i < T; ++i) {
          row = {.pairs = keys()};
          for (Pair &pair : row.pairs) {
            look(pair, false);
            pair.mask &= pair.set != &variant.sets[0] || selected(i, pair.j);
            pair.counts &= pair.mask;
          }
          forward();
          if (!cotangent.empty()) backward();
        }
      }
    result.gradients = std::move(evaluator.gradients);
    return std::move(result);
  }

 private:
  const ast::Variant &variant;
  const std::map<std::string, Array> &inputs;
  const std::vector<double> &cotangent;
  Evaluator evaluator;
  const RowNormalizer &normalizer;
  Result result;
  int64_t B, H, T, S, E;
  // The row:
  int64_t b = 0, h = 0, i = 0;
  Row row;

  int64_t number() const { return (b * H + h) * T + i; }
  const std::string &valuesOf(const Pair &pair) const { return variant.inputs[pair.set->values].name; }
  /// Where the pair's row of values starts.
  int64_t valueAt(const Pair &pair) const {
    const Array &values = inputs.at(valuesOf(pair));
    const int64_t head = h / (H / values.shape[1]);
    return ((b * values.shape[1] + head) * values.shape[2] + pair.j) * E;
  }

  /// The keys of the row: those of v, or of its list in the list's order, then those of the other sets.
  std::vector<Pair> keys() {
    std::vector<Pair> found;
    if (variant.keys) {
      const ast::Input &input = variant.inputs[variant.keys->input];
      const Array &lists = inputs.at(input.name);
      int64_t list = 0;
      for (size_t dim = 0; dim + 1 < input.dims.size(); ++dim)
        list = list * lists.shape[dim] + (input.dims[dim] == "B"        ? b
                                          : input.dims[dim] == "H"      ? h
                                          : isGroupDim(input.dims[dim]) ? h / (H / lists.shape[dim])
                                                                        : i / variant.keys->tile);
      for (int64_t n = 0; n < lists.shape.back(); ++n)
        if (const double key = lists.values[list * lists.shape.back() + n]; key >= 0 && key < static_cast<double>(S))
          found.push_back({&variant.sets[0], static_cast<int64_t>(key)});
    } else {
      for (int64_t j = 0; j < S; ++j) found.push_back({&variant.sets[0], j});
    }
    for (size_t at = 1; at < variant.sets.size(); ++at)
      for (int64_t j = 0; j < evaluator.dims[variant.sets[at].dim]; ++j) found.push_back({&variant.sets[at], j});
    return found;
  }

  void look(Pair &pair, bool record) {
    const ast::KeySet &set = *pair.set;
    evaluator.start(b, h, i, pair.j, record);
    for (const ast::ExprPtr &where : set.wheres) pair.mask &= evaluator.value(where) != 0;
    pair.s = evaluator.value(set.score);
    if (set.weight) pair.w = evaluator.value(set.weight);
    if (set.gate) pair.g = evaluator.value(set.gate);
    pair.counts = pair.mask && weighs(evaluator, set);
  }

  /// e of each pair, and the row of o.
  void forward() {
    if (variant.sink) {
      evaluator.start(b, h, i, 0, false);
      row.sink = evaluator.value(variant.sink);
    }
    normalizer.forward(row);
    result.lse.values[number()] = row.lse;
    double *o = &result.o.values[number() * E];
    for (Pair &pair : row.pairs) {
      if (!pair.mask) pair.e = 0;
      if (!pair.counts) continue;
      const double *values = &inputs.at(valuesOf(pair)).values[valueAt(pair)];
      for (int64_t c = 0; c < E; ++c) o[c] += pair.w * pair.e * pair.g * values[c];
    }
  }

  /// With g do.v, the cotangent of p: those of score, weight and gate of each pair, and of the sink, go to the inputs.
  void backward() {
    const double *cotangents = &cotangent[number() * E];
    for (Pair &pair : row.pairs) {
      if (!pair.mask) continue;
      const double *values = &inputs.at(valuesOf(pair)).values[valueAt(pair)];
      double *ownGradient = &evaluator.gradients[valuesOf(pair)].values[valueAt(pair)];
      for (int64_t c = 0; c < E; ++c) {
        pair.dov += cotangents[c] * values[c];
        ownGradient[c] += pair.p() * (pair.counts ? pair.g : 0) * cotangents[c];
      }
      pair.dp = pair.g * pair.dov;
    }
    normalizer.backward(row);
    for (const Pair &pair : row.pairs) {
      if (!pair.mask) continue;
      Pair again = pair;
      look(again, true);
      std::vector<std::pair<int, double>> seeds{{evaluator.eval(pair.set->score), pair.ds}};
      if (pair.set->weight) seeds.push_back({evaluator.eval(pair.set->weight), pair.dw});
      if (pair.set->gate) seeds.push_back({evaluator.eval(pair.set->gate), pair.p() * pair.dov});
      evaluator.backward(seeds);
    }
    if (variant.sink) {
      evaluator.start(b, h, i, 0, true);
      evaluator.backward({{evaluator.eval(variant.sink), row.dsink}});
    }
  }
};

}  // namespace

Result evaluate(const ast::Variant &variant, const std::map<std::string, Array> &inputs,
                const std::vector<double> &cotangent) {
  if (!termCounts(variant.source).empty())
    throw std::invalid_argument("expected a variant whose numbers of terms are written");
  return Attention(variant, inputs, cotangent).run();
}

}  // namespace weft::reference
