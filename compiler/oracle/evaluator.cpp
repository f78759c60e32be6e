#include "compiler/oracle/evaluator.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <stdexcept>

#include "compiler/dims.h"
#include "compiler/oracle/functions.h"
#include "compiler/origin_dims.h"

namespace weft::reference {

using ast::Expr;
using ast::Function;
using Kind = Expr::Kind;

namespace {

/// The factors of a product, each once.
std::vector<ast::ExprPtr> factorsOf(const ast::ExprPtr &weight) {
  std::vector<ast::ExprPtr> factors, left{weight};
  std::set<const Expr *> seen;
  while (!left.empty()) {
    const ast::ExprPtr next = left.back();
    left.pop_back();
    if (!seen.insert(next.get()).second) continue;
    if (next->kind == Kind::Let) left.push_back(next->args[0]);
    else if (next->kind == Kind::Call && next->function == Function::Mul)
      left.insert(left.end(), next->args.begin(), next->args.end());
    else factors.push_back(next);
  }
  return factors;
}

}  // namespace

Evaluator::Evaluator(const ast::Variant &variant, const std::map<std::string, Array> &inputs) : variant(variant) {
  for (const ast::Input &input : variant.inputs) {
    const Array &array = inputs.at(input.name);
    arrays.push_back(&array);
    for (size_t d = 0; d < input.dims.size(); ++d) dims[input.dims[d]] = array.shape[d];
    if (input.element == ast::ElementClass::Float)
      gradients[input.name] = {array.shape, std::vector<double>(array.values.size(), 0.0)};
  }
  for (const ast::Input &input : variant.inputs) {
    const auto found = gradients.find(input.name);
    gradientOf.push_back(found == gradients.end() ? nullptr : &found->second);
  }
  if (!dims.count("G")) dims["G"] = dims["H"];
  heads = dims["H"];
  if (!variant.origin) return;
  // A piece of a longer sequence where the inputs say so, else the whole.
  const auto given = inputs.find("origin");
  const std::vector<double> whole{0, 0, static_cast<double>(dims["T"]), static_cast<double>(dims["S"])};
  for (size_t at = 0; at < originDims.size(); ++at)
    dims[originDims[at]] = static_cast<int64_t>((given == inputs.end() ? whole : given->second.values).at(at));
}

void Evaluator::start(int64_t nb, int64_t nh, int64_t ni, int64_t nj, bool record) {
  b = nb;
  h = nh;
  i = ni;
  j = nj;
  recording = record;
  tape.clear();
  ++pair;
}

bool Evaluator::seen(const Expr *expr) const {
  const auto found = places.find(expr);
  return found != places.end() && found->second.pair == pair;
}

int Evaluator::push(double v) {
  tape.push_back({});
  tape.back().value = v;
  return static_cast<int>(tape.size()) - 1;
}

int Evaluator::eval(const ast::ExprPtr &expr) {
  if (const auto found = places.find(expr.get()); found != places.end() && found->second.pair == pair)
    return found->second.node;
  // What lets and calls are made of first: they come in chains.
  for (std::vector<const Expr *> path{expr.get()}; !path.empty();) {
    const Expr &own = *path.back();
    const size_t before = path.size();
    if (!seen(&own) && (own.kind == Kind::Let || own.kind == Kind::Call))
      for (size_t at = own.args.size(); at-- > 0;)
        if (!seen(own.args[at].get())) path.push_back(own.args[at].get());
    if (path.size() > before) continue;
    path.pop_back();
    if (seen(&own)) continue;
    const int node = compute(own);
    places[&own] = {pair, node};
  }
  return places.at(expr.get()).node;
}

int Evaluator::compute(const Expr &e) {
  switch (e.kind) {
    case Kind::Number: return push(e.type == ast::Type::Float ? e.value : std::floor(e.value));
    case Kind::True: return push(1);
    case Kind::False: return push(0);
    case Kind::Index: return push(static_cast<double>(std::array{b, h, i, j}[static_cast<int>(e.index)]));
    case Kind::Dim: return push(static_cast<double>(dims.at(e.name)));
    case Kind::Let: return eval(e.args[0]);
    case Kind::Read: return read(e);
    case Kind::Dot: return dot(e);
    case Kind::Call: return call(e);
    case Kind::Name:
    case Kind::Pooled: break;
  }
  throw std::logic_error("unresolved name in a checked tree");
}

int Evaluator::read(const Expr &e) {
  if (e.segment) return segment(e);
  const int64_t offset = offsetOf(e);
  const int node = push(arrays[e.input]->values[offset]);
  if (recording && gradientOf[e.input]) {
    tape[node].inputs[0] = e.input;
    tape[node].offsets[0] = offset;
  }
  return node;
}

int Evaluator::segment(const Expr &e) {
  const double x = value(e.args.back());
  Expr row;  // without the number
  row.kind = Kind::Read;
  row.input = e.input;
  row.args.assign(e.args.begin(), e.args.end() - 1);
  const Array &offsets = *arrays[e.input];
  const double *numbers = &offsets.values[offsetOf(row)];
  int64_t low = 0;
  for (int64_t high = offsets.shape.back(); low < high;) {
    const int64_t middle = (low + high) / 2;
    if (numbers[middle] <= x) low = middle + 1;
    else high = middle;
  }
  return push(static_cast<double>(low - 1));
}

int Evaluator::dot(const Expr &e) {
  double sum = 0;
  if (selecting) {
    const std::vector<double> x = pooled(*e.args[0]), y = pooled(*e.args[1]);
    for (size_t at = 0; at < x.size(); ++at) sum += x[at] * y[at];
    return push(sum);
  }
  const int left = e.args[0]->input, right = e.args[1]->input;
  const int64_t l = offsetOf(*e.args[0]), r = offsetOf(*e.args[1]);
  const int64_t width = arrays[left]->shape.back();
  const double *x = arrays[left]->values.data() + l, *y = arrays[right]->values.data() + r;
  for (int64_t at = 0; at < width; ++at) sum += x[at] * y[at];
  const int node = push(sum);
  if (recording) {
    Node &own = tape[node];
    own.inputs[0] = left, own.inputs[1] = right;
    own.offsets[0] = l, own.offsets[1] = r;
    own.width = width;
  }
  return node;
}

int64_t Evaluator::offsetOf(const Expr &read) {
  const ast::Input &input = variant.inputs[read.input];
  const Array &array = *arrays[read.input];
  int64_t offset = 0;
  for (size_t d = 0; d < read.args.size(); ++d) {
    int64_t index = static_cast<int64_t>(value(read.args[d]));
    if (isGroupDim(input.dims[d]) && read.args[d]->kind == Kind::Index) index /= heads / array.shape[d];
    index = std::min(std::max<int64_t>(index, 0), array.shape[d] - 1);
    offset = offset * array.shape[d] + index;
  }
  for (size_t d = read.args.size(); d < array.shape.size(); ++d) offset *= array.shape[d];
  return offset;
}

/// The rows of the tile at (i, j), or of the one before it, as one.
std::vector<double> Evaluator::pooled(const Expr &e) {
  const ast::Input &input = variant.inputs[e.input];
  const Array &array = *arrays[e.input];
  const bool queries = input.dims[2] == "T";
  const int64_t tile = queries ? selecting->tileQ : selecting->tileK, width = array.shape[3];
  const int64_t head = h / (heads / array.shape[1]);
  int64_t first = queries ? i : j;
  if (e.pool == ast::Pool::MeanBefore) first -= tile;
  const int64_t last = std::min(first + tile, array.shape[2]) - 1;
  std::vector<double> result(width, 0.0);
  if (first < 0) return result;
  for (int64_t c = 0; c < width; ++c) {
    auto at = [&](int64_t row) {
      return array.values[((b * array.shape[1] + head) * array.shape[2] + row) * width + c];
    };
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

int Evaluator::call(const Expr &e) {
  int in[3] = {-1, -1, -1};
  double x[3] = {0, 0, 0};
  for (size_t at = 0; at < e.args.size(); ++at) {
    in[at] = eval(e.args[at]);
    x[at] = tape[in[at]].value;
  }
  const Applied result = apply(e.function, x, e.type, single);
  const int node = push(result.value);
  if (e.type == ast::Type::Float)
    for (size_t at = 0; at < e.args.size(); ++at)
      if (e.args[at]->type == ast::Type::Float) {
        tape[node].parents[at] = in[at];
        tape[node].slopes[at] = result.slopes[at];
      }
  return node;
}

void Evaluator::toInputs(const Node &node, double cotangent) {
  double *left = gradientOf[node.inputs[0]]->values.data() + node.offsets[0];
  if (node.inputs[1] < 0) {
    *left += cotangent;
    return;
  }
  double *right = gradientOf[node.inputs[1]]->values.data() + node.offsets[1];
  const double *x = arrays[node.inputs[0]]->values.data() + node.offsets[0];
  const double *y = arrays[node.inputs[1]]->values.data() + node.offsets[1];
  for (int64_t at = 0; at < node.width; ++at) {
    left[at] += cotangent * y[at];
    right[at] += cotangent * x[at];
  }
}

void Evaluator::backward(const std::vector<std::pair<int, double>> &seeds) {
  std::vector<double> cotangents(tape.size(), 0.0);
  for (auto [node, seed] : seeds) cotangents[node] += seed;
  for (int at = static_cast<int>(tape.size()) - 1; at >= 0; --at) {
    const double own = cotangents[at];
    if (own == 0) continue;
    const Node &node = tape[at];
    if (node.inputs[0] >= 0) toInputs(node, own);
    for (int p = 0; p < 3; ++p)
      if (node.parents[p] >= 0 && node.slopes[p] != 0) cotangents[node.parents[p]] += own * node.slopes[p];
  }
}

bool weighs(Evaluator &evaluator, const ast::KeySet &set) {
  if (!set.weight) return true;
  if (evaluator.value(set.weight) <= 0) return false;
  return std::ranges::all_of(factorsOf(set.weight),
                             [&](const ast::ExprPtr &factor) { return evaluator.value(factor) != 0; });
}

}  // namespace weft::reference
