#include "compiler/reference.h"

#include "compiler/language/selection.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <set>
#include <stdexcept>

namespace weft::reference {
namespace {

using ast::Expr;
using ast::Function;
using Kind = Expr::Kind;

/// One value on the tape: how it came from up to three others.
struct Node {
  double value = 0;
  int parents[3] = {-1, -1, -1};
  double slopes[3] = {0, 0, 0};
  std::function<void(double)> leaf;  ///< receives the cotangent of a read or a dot
};

class Evaluator {
 public:
  Evaluator(const ast::Variant &variant, const std::map<std::string, Array> &inputs)
      : variant(variant), inputs(inputs) {
    for (const ast::Input &input : variant.inputs) {
      const Array &array = inputs.at(input.name);
      for (size_t d = 0; d < input.dims.size(); ++d) dims[input.dims[d]] = array.shape[d];
      if (input.element == ast::ElementClass::Float)
        gradients[input.name] = {array.shape, std::vector<double>(array.values.size(), 0.0)};
    }
    if (!dims.count("G")) dims["G"] = dims["H"];
  }

  const ast::Variant &variant;
  const std::map<std::string, Array> &inputs;
  std::map<std::string, int64_t> dims;
  std::map<std::string, Array> gradients;
  int64_t b = 0, h = 0, i = 0, j = 0;
  std::vector<Node> tape;
  std::map<const Expr *, int> seen;
  bool recording = false;
  bool single = false;   ///< each float is rounded to f32
  const ast::Select *selecting = nullptr;  ///< i and j are the first of a tile of it

  void start(int64_t nb, int64_t nh, int64_t ni, int64_t nj, bool record) {
    b = nb;
    h = nh;
    i = ni;
    j = nj;
    recording = record;
    tape.clear();
    seen.clear();
  }

  int eval(const ast::ExprPtr &expr) {
    if (auto found = seen.find(expr.get()); found != seen.end()) return found->second;
    // What lets and calls are made of first: they come in chains.
    for (std::vector<const Expr *> path{expr.get()}; !path.empty();) {
      const Expr &own = *path.back();
      const size_t before = path.size();
      if (!seen.count(&own) && (own.kind == Kind::Let || own.kind == Kind::Call))
        for (size_t at = own.args.size(); at-- > 0;)
          if (!seen.count(own.args[at].get())) path.push_back(own.args[at].get());
      if (path.size() > before) continue;
      path.pop_back();
      if (!seen.count(&own)) seen[&own] = compute(own);
    }
    return seen.at(expr.get());
  }
  double value(const ast::ExprPtr &expr) { return tape[eval(expr)].value; }

  void backward(const std::vector<std::pair<int, double>> &seeds) {
    std::vector<double> cotangents(tape.size(), 0.0);
    for (auto [node, seed] : seeds) cotangents[node] += seed;
    for (int at = static_cast<int>(tape.size()) - 1; at >= 0; --at) {
      const double own = cotangents[at];
      if (own == 0) continue;
      if (tape[at].leaf) tape[at].leaf(own);
      for (int p = 0; p < 3; ++p)
        if (tape[at].parents[p] >= 0 && tape[at].slopes[p] != 0)
          cotangents[tape[at].parents[p]] += own * tape[at].slopes[p];
    }
  }

  int64_t offsetOf(const Expr &read) {
    const ast::Input &input = variant.inputs[read.input];
    const Array &array = inputs.at(input.name);
    int64_t offset = 0;
    for (size_t d = 0; d < read.args.size(); ++d) {
      int64_t index = static_cast<int64_t>(value(read.args[d]));
      if (input.dims[d] == "G" && read.args[d]->kind == Kind::Index) index /= dims["H"] / dims["G"];
      index = std::min(std::max<int64_t>(index, 0), array.shape[d] - 1);
      offset = offset * array.shape[d] + index;
    }
    for (size_t d = read.args.size(); d < array.shape.size(); ++d) offset *= array.shape[d];
    return offset;
  }

 private:
  int push(double v) {
    tape.push_back({});
    tape.back().value = v;
    return static_cast<int>(tape.size()) - 1;
  }

  int compute(const Expr &e) {
    switch (e.kind) {
      case Kind::Number: return push(e.type == ast::Type::Float ? e.value : std::floor(e.value));
      case Kind::True: return push(1);
      case Kind::False: return push(0);
      case Kind::Index: return push(static_cast<double>(std::array{b, h, i, j}[static_cast<int>(e.index)]));
      case Kind::Dim: return push(static_cast<double>(dims.at(e.name)));
      case Kind::Let: return eval(e.args[0]);
      case Kind::Read: {
        const std::string name = e.name;
        const int64_t offset = offsetOf(e);
        const int node = push(inputs.at(name).values[offset]);
        if (recording && gradients.count(name))
          tape[node].leaf = [this, name, offset](double c) { gradients[name].values[offset] += c; };
        return node;
      }
      case Kind::Dot: {
        if (selecting) {
          double sum = 0;
          const std::vector<double> x = pooled(*e.args[0]), y = pooled(*e.args[1]);
          for (size_t at = 0; at < x.size(); ++at) sum += x[at] * y[at];
          return push(sum);
        }
        const std::string left = e.args[0]->name, right = e.args[1]->name;
        const int64_t l = offsetOf(*e.args[0]), r = offsetOf(*e.args[1]);
        const int64_t width = inputs.at(left).shape.back();
        double sum = 0;
        for (int64_t at = 0; at < width; ++at) sum += inputs.at(left).values[l + at] * inputs.at(right).values[r + at];
        const int node = push(sum);
        if (recording)
          tape[node].leaf = [=, this](double c) {
            for (int64_t at = 0; at < width; ++at) {
              gradients[left].values[l + at] += c * inputs.at(right).values[r + at];
              gradients[right].values[r + at] += c * inputs.at(left).values[l + at];
            }
          };
        return node;
      }
      case Kind::Call: return call(e);
      case Kind::Name:
      case Kind::Pooled: break;
    }
    throw std::logic_error("unresolved name in a checked tree");
  }

  /// The rows of the tile at (i, j), or of the one before it, as one.
  std::vector<double> pooled(const Expr &e) {
    const ast::Input &input = variant.inputs[e.input];
    const Array &array = inputs.at(input.name);
    const bool queries = input.dims[2] == "T";
    const int64_t tile = queries ? selecting->tileQ : selecting->tileK, width = array.shape[3];
    const int64_t head = input.dims[1] == "G" ? h / (dims["H"] / dims["G"]) : h;
    int64_t first = queries ? i : j;
    if (e.pool == ast::Pool::MeanBefore) first -= tile;
    const int64_t last = std::min(first + tile, array.shape[2]) - 1;
    std::vector<double> result(width, 0.0);
    if (first < 0) return result;
    for (int64_t c = 0; c < width; ++c) {
      auto at = [&](int64_t row) { return array.values[((b * array.shape[1] + head) * array.shape[2] + row) * width + c]; };
      double sum = 0, most = at(first), least = at(first);
      for (int64_t row = first; row <= last; ++row) {
        sum += at(row);
        most = std::max(most, at(row));
        least = std::min(least, at(row));
      }
      switch (e.pool) {
        case ast::Pool::Mean:
        case ast::Pool::MeanBefore: result[c] = sum / static_cast<double>(last - first + 1); break;
        case ast::Pool::Max: result[c] = most; break;
        case ast::Pool::Min: result[c] = least; break;
        case ast::Pool::First: result[c] = at(first); break;
        case ast::Pool::Last: result[c] = at(last); break;
      }
    }
    return result;
  }

  /// Ints have 32 bits and saturate; floor, ceil and round go to the last f32 below 2^31, and of NaN give 0.
  static double asInt(double y, Function function) {
    const bool rounding = function == Function::Floor || function == Function::Ceil || function == Function::Round;
    if (std::isnan(y)) return 0;
    return rounding ? std::clamp(y, -2147483520.0, 2147483520.0) : std::clamp(y, -2147483648.0, 2147483647.0);
  }

  /// Denormal numbers are 0 in kernels.
  static double asSingle(double y) {
    const float rounded = static_cast<float>(y);
    return std::fabs(rounded) < std::numeric_limits<float>::min() ? 0 : rounded;
  }

  int call(const Expr &e) {
    std::vector<int> in;
    for (const ast::ExprPtr &arg : e.args) in.push_back(eval(arg));
    double x[3] = {0, 0, 0};
    for (size_t at = 0; at < in.size(); ++at) x[at] = tape[in[at]].value;
    const bool whole = e.type == ast::Type::Int;
    double y = 0, d[3] = {0, 0, 0};
    auto logistic = [](double v) { return 1 / (1 + std::exp(-v)); };
    switch (e.function) {
      case Function::Neg: y = -x[0]; d[0] = -1; break;
      case Function::Add: y = x[0] + x[1]; d[0] = d[1] = 1; break;
      case Function::Sub: y = x[0] - x[1]; d[0] = 1; d[1] = -1; break;
      case Function::Mul: y = x[0] * x[1]; d[0] = x[1]; d[1] = x[0]; break;
      case Function::Div: y = x[0] / x[1]; d[0] = 1 / x[1]; d[1] = -x[0] / (x[1] * x[1]); break;
      case Function::Mod:
        if (whole && x[1] == 0) { y = 0; break; }
        if (single && !whole) {
          y = asSingle(std::fma(-x[1], std::floor(asSingle(x[0] / x[1])), x[0]));
          if (asSingle(y * x[1]) < 0) y += x[1];
          break;
        }
        y = x[0] - x[1] * std::floor(x[0] / x[1]); d[0] = 1; d[1] = -std::floor(x[0] / x[1]);
        break;
      case Function::Min: y = std::min(x[0], x[1]); d[0] = x[0] < x[1] ? 1 : x[0] == x[1] ? 0.5 : 0; d[1] = 1 - d[0]; break;
      case Function::Max: y = std::max(x[0], x[1]); d[0] = x[0] > x[1] ? 1 : x[0] == x[1] ? 0.5 : 0; d[1] = 1 - d[0]; break;
      case Function::Clamp:
        y = std::min(std::max(x[0], x[1]), x[2]);
        d[0] = x[0] >= x[1] && x[0] <= x[2];
        d[1] = x[0] < x[1] && x[1] < x[2];
        d[2] = x[0] > x[2] || x[1] > x[2];
        break;
      case Function::Abs: y = std::fabs(x[0]); d[0] = (x[0] > 0) - (x[0] < 0); break;
      case Function::Exp: y = std::exp(x[0]); d[0] = y; break;
      case Function::Exp2: y = std::exp2(x[0]); d[0] = y * M_LN2; break;
      case Function::Log: y = std::log(x[0]); d[0] = 1 / x[0]; break;
      case Function::Log1p: y = std::log1p(x[0]); d[0] = 1 / (1 + x[0]); break;
      case Function::Sqrt: y = std::sqrt(x[0]); d[0] = 0.5 / y; break;
      case Function::Rsqrt: y = 1 / std::sqrt(x[0]); d[0] = -0.5 * y / x[0]; break;
      case Function::Sin: y = std::sin(x[0]); d[0] = std::cos(x[0]); break;
      case Function::Cos: y = std::cos(x[0]); d[0] = -std::sin(x[0]); break;
      case Function::Tanh: y = std::tanh(x[0]); d[0] = 1 - y * y; break;
      case Function::Sigmoid: y = logistic(x[0]); d[0] = y * (1 - y); break;
      case Function::Relu: y = std::max(x[0], 0.0); d[0] = x[0] > 0; break;
      case Function::Softplus: y = std::max(x[0], 0.0) + std::log1p(std::exp(-std::fabs(x[0]))); d[0] = logistic(x[0]); break;
      case Function::Pow: y = std::pow(x[0], x[1]); d[0] = x[1] * std::pow(x[0], x[1] - 1); d[1] = x[0] == 0 ? 0 : y * std::log(x[0]); break;
      case Function::Triangle: {
        const double f = single ? asSingle(x[0] - std::floor(x[0])) : x[0] - std::floor(x[0]);
        y = 4 * std::fabs(f - 0.5) - 1;
        d[0] = f < 0.5 ? -4 : f > 0.5 ? 4 : 0;
        break;
      }
      case Function::Floor: y = std::floor(x[0]); break;
      case Function::Ceil: y = std::ceil(x[0]); break;
      case Function::Round: y = std::nearbyint(x[0]); break;
      case Function::Lt: y = x[0] < x[1]; break;
      case Function::Le: y = x[0] <= x[1]; break;
      case Function::Gt: y = x[0] > x[1]; break;
      case Function::Ge: y = x[0] >= x[1]; break;
      case Function::Eq: y = x[0] == x[1]; break;
      case Function::Ne: y = x[0] != x[1]; break;
      case Function::And: y = x[0] != 0 && x[1] != 0; break;
      case Function::Or: y = x[0] != 0 || x[1] != 0; break;
      case Function::Not: y = x[0] == 0; break;
      case Function::Select: y = x[0] != 0 ? x[1] : x[2]; d[1] = x[0] != 0; d[2] = x[0] == 0; break;
      case Function::ToFloat: y = x[0]; break;
    }
    if (whole) y = asInt(y, e.function);
    if (single && e.type == ast::Type::Float) y = asSingle(y);
    const int node = push(y);
    if (e.type == ast::Type::Float)
      for (size_t at = 0; at < in.size(); ++at)
        if (e.args[at]->type == ast::Type::Float) {
          tape[node].parents[at] = in[at];
          tape[node].slopes[at] = d[at];
        }
    return node;
  }
};

/// The factors of a product, each once.
std::vector<ast::ExprPtr> factorsOf(const ast::ExprPtr &weight) {
  std::vector<ast::ExprPtr> factors, left{weight};
  std::set<const Expr *> seen;
  while (!left.empty()) {
    const ast::ExprPtr next = left.back();
    left.pop_back();
    if (!seen.insert(next.get()).second) continue;
    if (next->kind == Kind::Let) left.push_back(next->args[0]);
    else if (next->kind == Kind::Call && next->function == Function::Mul) left.insert(left.end(), next->args.begin(), next->args.end());
    else factors.push_back(next);
  }
  return factors;
}

/// Which pairs of one head the variant's selection leaves: a table of the last round's tiles.
class Selection {
 public:
  Selection(const ast::Variant &variant, Evaluator &ev, int64_t b, int64_t h) : select(variant.selects.empty() ? nullptr : &variant.selects.back()) {
    const int64_t T = ev.dims["T"], S = ev.dims["S"];
    std::vector<char> before;
    const ast::Select *coarse = nullptr;
    for (const ast::Select &round : variant.selects) {
      columns = (S + round.tileK - 1) / round.tileK;
      chosen.assign((T + round.tileQ - 1) / round.tileQ * columns, 0);
      for (int64_t i = 0; i < T; i += round.tileQ) {
        std::vector<int64_t> ranked, anchors;   // anchors: kept in any case, off the diagonal
        char *row = &chosen[i / round.tileQ * columns];
        auto at = [&](int64_t tile, const ast::ExprPtr &expr) {
          ev.start(b, h, i, tile * round.tileK, false);
          ev.selecting = &round;
          const double value = ev.value(expr);
          ev.selecting = nullptr;
          return value;
        };
        for (int64_t tile = 0; tile < columns; ++tile) {
          const int64_t j = tile * round.tileK, lastI = std::min(i + round.tileQ, T), lastJ = std::min(j + round.tileK, S);
          bool possible = false;
          for (int64_t y = i; y < lastI && !possible; ++y)
            for (int64_t x = j; x < lastJ && !possible; ++x) {
              ev.start(b, h, y, x, false);
              possible = true;
              for (const ast::ExprPtr &where : variant.sets[0].wheres) possible = possible && ev.value(where) != 0;
            }
          if (coarse) possible = possible && before[i / coarse->tileQ * ((S + coarse->tileK - 1) / coarse->tileK) + j / coarse->tileK];
          if (!possible) continue;
          for (const ast::Keep &keep : round.keeps) {
            if (keep.kind == ast::Keep::Kind::Diagonal) row[tile] |= i < j + round.tileK && j < i + round.tileQ;
            if (keep.kind == ast::Keep::Kind::First) row[tile] |= static_cast<double>(tile) < at(tile, keep.amount);
            if (keep.kind == ast::Keep::Kind::Condition && !ast::holdsDot(*keep.value)) row[tile] |= at(tile, keep.value) != 0;
          }
          if (!row[tile]) ranked.push_back(tile);
          else if (i >= j + round.tileK || j >= i + round.tileQ) anchors.push_back(tile);
        }
        for (const ast::Keep &keep : round.keeps) {
          if (keep.kind == ast::Keep::Kind::Condition && ast::holdsDot(*keep.value))
            for (int64_t tile : ranked) row[tile] |= at(tile, keep.value) != 0;
          if (keep.kind == ast::Keep::Kind::Near) {
            double anchor = -std::numeric_limits<double>::infinity();
            for (int64_t tile : anchors) anchor = std::max(anchor, at(tile, keep.value));
            for (int64_t tile : ranked) row[tile] |= !anchors.empty() && at(tile, keep.value) >= anchor - at(0, keep.amount);
          }
          if (keep.kind != ast::Keep::Kind::TopK && keep.kind != ast::Keep::Kind::TopP) continue;
          std::vector<std::pair<double, int64_t>> order;
          for (int64_t tile : ranked) order.push_back({-at(tile, keep.value), tile});
          std::sort(order.begin(), order.end());
          const double amount = at(0, keep.amount);
          double total = 0, sum = 0;
          for (auto [value, tile] : order) total += std::exp(order[0].first - value);
          for (size_t n = 0; n < order.size(); ++n) {
            if (keep.kind == ast::Keep::Kind::TopK ? static_cast<double>(n) >= amount : sum >= amount * total) break;
            row[order[n].second] = 1;
            sum += std::exp(order[0].first - order[n].first);
          }
        }
      }
      before = chosen;
      coarse = &round;
    }
  }
  bool operator()(int64_t i, int64_t j) const { return !select || chosen[i / select->tileQ * columns + j / select->tileK]; }

 private:
  const ast::Select *select;
  int64_t columns = 0;
  std::vector<char> chosen;
};

}  // namespace

Result evaluate(const ast::Variant &variant, const std::map<std::string, Array> &inputs,
                const std::vector<double> &cotangent) {
  Evaluator ev(variant, inputs);
  const int64_t B = ev.dims["B"], H = ev.dims["H"], G = ev.dims["G"], T = ev.dims["T"], S = ev.dims["S"];
  const int64_t E = inputs.at("v").shape[3];
  const double infinity = std::numeric_limits<double>::infinity();
  Result result;
  result.o = {{B, H, T, E}, std::vector<double>(B * H * T * E, 0.0)};
  result.lse = {{B, H, T}, std::vector<double>(B * H * T, 0.0)};
  const bool softmax = variant.normalize == ast::Normalize::Softmax;
  for (int64_t b = 0; b < B; ++b)
    for (int64_t h = 0; h < H; ++h) {
      const Selection selected(variant, ev, b, h);
      for (int64_t i = 0; i < T; ++i) {
        const int64_t row = (b * H + h) * T + i;
        struct Key { const ast::KeySet *set; int64_t j; };
        auto valueName = [&](const Key &key) -> const std::string & { return variant.inputs[key.set->values].name; };
        auto valueAt = [&](const Key &key) {
          const Array &values = inputs.at(valueName(key));
          const int64_t head = values.shape[1] == H ? h : h / (H / G);
          return ((b * values.shape[1] + head) * values.shape[2] + key.j) * E;
        };
        struct Pair { bool mask; double s, w, g; bool counts; };
        auto look = [&](const Key &key, bool record) {
          ev.start(b, h, i, key.j, record);
          Pair pair{true, 0, 1, 1, false};
          for (const ast::ExprPtr &where : key.set->wheres) pair.mask &= ev.value(where) != 0;
          if (key.set == &variant.sets[0]) pair.mask &= selected(i, key.j);
          pair.s = ev.value(key.set->score);
          if (key.set->weight) pair.w = ev.value(key.set->weight);
          if (key.set->gate) pair.g = ev.value(key.set->gate);
          // A weight that is NaN counts, and shows; a factor that is 0 takes the whole weight with it.
          pair.counts = pair.mask && !(pair.w <= 0);
          if (key.set->weight)
            for (const ast::ExprPtr &factor : factorsOf(key.set->weight)) pair.counts = pair.counts && ev.value(factor) != 0;
          return pair;
        };
        // The keys of the row, in the order of its list, then those of the other sets.
        std::vector<Key> keys;
        for (int64_t j = 0; j < S; ++j) keys.push_back({&variant.sets[0], j});
        if (variant.keys) {
          const ast::Input &input = variant.inputs[variant.keys->input];
          const Array &lists = inputs.at(input.name);
          int64_t list = 0;
          for (size_t dim = 0; dim + 1 < input.dims.size(); ++dim)
            list = list * lists.shape[dim] + (input.dims[dim] == "B" ? b : input.dims[dim] == "H" ? h : i / variant.keys->tile);
          keys.clear();
          for (int64_t n = 0; n < lists.shape.back(); ++n)
            if (const double key = lists.values[list * lists.shape.back() + n]; key >= 0 && key < static_cast<double>(S)) keys.push_back({&variant.sets[0], static_cast<int64_t>(key)});
        }
        for (size_t at = 1; at < variant.sets.size(); ++at)
          for (int64_t j = 0; j < ev.dims[variant.sets[at].dim]; ++j) keys.push_back({&variant.sets[at], j});
        std::vector<Pair> pairs;
        double top = -infinity, sinkValue = -infinity;
        if (variant.sink) {
          ev.start(b, h, i, 0, false);
          top = sinkValue = ev.value(variant.sink);
        }
        for (const Key &j : keys) {
          pairs.push_back(look(j, false));
          if (pairs.back().counts) top = std::max(top, pairs.back().s);
        }
        double mass = variant.sink ? std::exp(sinkValue - top) : 0;
        for (const Pair &pair : pairs)
          if (pair.counts) mass += pair.w * std::exp(pair.s - top);
        const double lse = mass <= 0 ? -infinity : top + std::log(mass);
        if (softmax) result.lse.values[row] = lse;
        const bool stick = variant.normalize == ast::Normalize::StickBreaking;
        auto logistic = [](double x) { return 1 / (1 + std::exp(-x)); };
        std::vector<double> left(stick ? pairs.size() : 0, 1.0);  // of the stick at each key, once the keys after it have taken their piece
        for (size_t n = left.size(); n-- > 1;) left[n - 1] = left[n] * (pairs[n].counts ? logistic(-pairs[n].s) : 1.0);
        // e: probability without its weight
        auto base = [&](const Pair &pair) {
          if (!pair.mask) return 0.0;
          if (stick) return logistic(pair.s) * left[&pair - pairs.data()];
          if (variant.normalize == ast::Normalize::Sigmoid) return 1 / (1 + std::exp(-pair.s));
          if (variant.normalize == ast::Normalize::None) return pair.s;
          return lse == -infinity ? 0.0 : std::exp(pair.s - lse);
        };
        double *o = &result.o.values[row * E];
        for (size_t n = 0; n < keys.size(); ++n) {
          const Key &j = keys[n];
          const std::vector<double> &values = inputs.at(valueName(j)).values;
          if (!pairs[n].counts) continue;
          const double p = base(pairs[n]) * pairs[n].w;
          for (int64_t e = 0; e < E; ++e) o[e] += p * pairs[n].g * values[valueAt(j) + e];
        }
        if (cotangent.empty()) continue;
        const double *dO = &cotangent[row * E];
        double delta = 0;
        for (int64_t e = 0; e < E; ++e) delta += dO[e] * o[e];
        double before = 0;  // stick breaking: p dP of the keys before j
        for (size_t n = 0; n < keys.size(); ++n) {
          const Key &j = keys[n];
          const std::vector<double> &values = inputs.at(valueName(j)).values;
          std::vector<double> &dValues = ev.gradients[valueName(j)].values;
          const Pair &pair = pairs[n];
          if (!pair.mask) continue;
          const double raw = base(pair), p = pair.counts ? raw * pair.w : 0, gate = pair.counts ? pair.g : 0;
          double dov = 0;
          for (int64_t e = 0; e < E; ++e) {
            dov += dO[e] * values[valueAt(j) + e];
            dValues[valueAt(j) + e] += p * gate * dO[e];
          }
          double dP = pair.g * dov, ds, dw;
          if (softmax) {
            dw = raw * (dP - delta);
            ds = p * (dP - delta);
          } else if (stick) {
            dw = raw * dP;
            ds = pair.counts ? p * dP * (1 - logistic(pair.s)) - logistic(pair.s) * before : 0;
            if (pair.counts) before += p * dP;
          } else if (variant.normalize == ast::Normalize::Sigmoid) {
            dw = raw * dP;
            ds = p * (1 - raw) * dP;
          } else {
            dw = raw * dP;
            ds = pair.counts ? pair.w * dP : 0;
          }
          look(j, true);
          std::vector<std::pair<int, double>> seeds{{ev.eval(j.set->score), ds}};
          if (j.set->weight) seeds.push_back({ev.eval(j.set->weight), dw});
          if (j.set->gate) seeds.push_back({ev.eval(j.set->gate), p * dov});
          ev.backward(seeds);
        }
        if (variant.sink && lse > -infinity) {
          ev.start(b, h, i, 0, true);
          const int node = ev.eval(variant.sink);
          ev.backward({{node, -std::exp(sinkValue - lse) * delta}});
        }
      }
    }
  result.gradients = std::move(ev.gradients);
  return result;
}

std::vector<Kept> pairs(const ast::Variant &variant, const std::map<std::string, Array> &inputs, int64_t b, int64_t h) {
  Evaluator ev(variant, inputs);
  ev.single = true;
  const ast::KeySet &set = variant.sets[0];
  const int64_t T = ev.dims["T"], S = ev.dims["S"];
  std::vector<Kept> result(T * S, Kept::Dropped);
  for (int64_t i = 0; i < T; ++i)
    for (int64_t j = 0; j < S; ++j) {
      ev.start(b, h, i, j, false);
      bool mask = true, counts = true;
      for (const ast::ExprPtr &where : set.wheres) mask = mask && ev.value(where) != 0;
      if (!mask) continue;
      if (set.weight) {
        counts = !(ev.value(set.weight) <= 0);
        for (const ast::ExprPtr &factor : factorsOf(set.weight)) counts = counts && ev.value(factor) != 0;
      }
      result[i * S + j] = counts ? Kept::Counts : Kept::Weightless;
    }
  return result;
}

std::vector<bool> liveTiles(const ast::Variant &variant, const std::map<std::string, Array> &inputs,
                            int64_t b, int64_t h, int64_t tileQ, int64_t tileK) {
  Evaluator ev(variant, inputs);
  const Selection selected(variant, ev, b, h);
  const int64_t T = ev.dims["T"], S = ev.dims["S"];
  const int64_t columns = (S + tileK - 1) / tileK;
  std::vector<bool> live((T + tileQ - 1) / tileQ * columns, false);
  for (int64_t i = 0; i < T; ++i)
    for (int64_t j = 0; j < S; ++j) {
      const int64_t tile = i / tileQ * columns + j / tileK;
      if (live[tile] || !selected(i, j)) continue;
      ev.start(b, h, i, j, true);
      bool mask = true;
      for (const ast::ExprPtr &where : variant.sets[0].wheres) mask &= ev.value(where) != 0;
      if (!mask) continue;
      if (!variant.sets[0].weight) {
        live[tile] = true;
        continue;
      }
      const int node = ev.eval(variant.sets[0].weight);
      bool matters = ev.tape[node].value != 0;
      if (!matters) {
        for (auto &[name, gradient] : ev.gradients) std::fill(gradient.values.begin(), gradient.values.end(), 0.0);
        ev.backward({{node, 1.0}});
        for (auto &[name, gradient] : ev.gradients)
          for (double value : gradient.values) matters |= value != 0;
      }
      live[tile] = matters;
    }
  return live;
}

}  // namespace weft::reference
