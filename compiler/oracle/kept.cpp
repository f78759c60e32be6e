// What becomes of each pair and tile of one head.
#include <algorithm>

#include "compiler/oracle/evaluator.h"
#include "compiler/oracle/selection.h"

namespace weft::reference {
namespace {

bool masksHold(Evaluator &evaluator, const ast::KeySet &set) {
  return std::ranges::all_of(set.wheres, [&](const ast::ExprPtr &where) { return evaluator.value(where) != 0; });
}

}  // namespace

std::vector<Kept> pairs(const ast::Variant &variant, const std::map<std::string, Array> &inputs, int64_t b, int64_t h) {
  Evaluator evaluator(variant, inputs);
  evaluator.single = true;
  const ast::KeySet &set = variant.sets[0];
  const int64_t T = evaluator.dims["T"], S = evaluator.dims["S"];
  std::vector<Kept> result(T * S, Kept::Dropped);
  for (int64_t i = 0; i < T; ++i)
    for (int64_t j = 0; j < S; ++j) {
      evaluator.start(b, h, i, j, false);
      if (masksHold(evaluator, set)) result[i * S + j] = weighs(evaluator, set) ? Kept::Counts : Kept::Weightless;
    }
  return result;
}

std::vector<bool> liveTiles(const ast::Variant &variant, const std::map<std::string, Array> &inputs, int64_t b,
                            int64_t h, int64_t tileQ, int64_t tileK) {
  Evaluator evaluator(variant, inputs);
  const Selection selected(variant, evaluator, b, h);
  const ast::KeySet &set = variant.sets[0];
  const int64_t T = evaluator.dims["T"], S = evaluator.dims["S"];
  const int64_t columns = (S + tileK - 1) / tileK;
  std::vector<bool> live((T + tileQ - 1) / tileQ * columns, false);
  // A pair matters where its weight or a derivative of it is not 0.
  auto matters = [&] {
    if (!set.weight) return true;
    const int node = evaluator.eval(set.weight);
    if (evaluator.tape[node].value != 0) return true;
    for (auto &[name, gradient] : evaluator.gradients) std::ranges::fill(gradient.values, 0.0);
    evaluator.backward({{node, 1.0}});
    return std::ranges::any_of(evaluator.gradients, [](const auto &gradient) {
      return std::ranges::any_of(gradient.second.values, [](double value) { return value != 0; });
    });
  };
  for (int64_t i = 0; i < T; ++i)
    for (int64_t j = 0; j < S; ++j) {
      const int64_t tile = i / tileQ * columns + j / tileK;
      if (live[tile] || !selected(i, j)) continue;
      evaluator.start(b, h, i, j, true);
      live[tile] = masksHold(evaluator, set) && matters();
    }
  return live;
}

}  // namespace weft::reference
