#include "compiler/oracle/evaluator.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <stdexcept>

#include "compiler/oracle/functions.h"

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

Evaluator::Evaluator(const ast::Variant &variant, const std::map<std::string, Array> &inputs)
    : variant(variant), inputs(inputs) {
  for (const ast::Input &input : variant.inputs) {
    const Array &array = inputs.at(input.name);
    for (size_t d = 0; d < input.dims.size(); ++d) dims[input.dims[d]] = array.shape[d];
    if (input.element == ast::ElementClass::Float)
      gradients[input.name] = {array.shape, std::vector<double>(array.values.size(), 0.0)};
  }
  if (!dims.count("G")) dims["G"] = dims["H"];
}

void Evaluator::start(int64_t nb, int64_t nh, int64_t ni, int64_t nj, bool record) {
  b = nb;
  h = nh;
  i = ni;
  j = nj;
  recording = record;
  tape.clear();
  seen.clear();
}

int Evaluator::push(double v) {
  tape.push_back({});
  tape.back().value = v;
  return static_cast<int>(tape.size()) - 1;
}

int Evaluator::eval(const ast::ExprPtr &expr) {
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
  const std::string name = e.name;
  if (e.segment) return segment(e);
  const int64_t offset = offsetOf(e);
  const int node = push(inputs.at(name).values[offset]);
  if (recording && gradients.count(name))
    tape[node].leaf = [this, name, offset](double c) { gradients[name].values[offset] += c; };
  return node;
}

int Evaluator::segment(const Expr &e) {
  const double x = value(e.args.back());
  Expr row;  // without the number
  row.kind = Kind::Read;
  row.input = e.input;
  row.args.assign(e.args.begin(), e.args.end() - 1);
  const Array &offsets = inputs.at(e.name);
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
  const std::string left = e.args[0]->name, right = e.args[1]->name;
  const int64_t l = offsetOf(*e.args[0]), r = offsetOf(*e.args[1]);
  const int64_t width = inputs.at(left).shape.back();
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

int64_t Evaluator::offsetOf(const Expr &read) {
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

/// The rows of the tile at (i, j), or of the one before it, as one.
std::vector<double> Evaluator::pooled(const Expr &e) {
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
  std::vector<int> in;
  for (const ast::ExprPtr &arg : e.args) in.push_back(eval(arg));
  double x[3] = {0, 0, 0};
  for (size_t at = 0; at < in.size(); ++at) x[at] = tape[in[at]].value;
  const Applied result = apply(e.function, x, e.type, single);
  const int node = push(result.value);
  if (e.type == ast::Type::Float)
    for (size_t at = 0; at < in.size(); ++at)
      if (e.args[at]->type == ast::Type::Float) {
        tape[node].parents[at] = in[at];
        tape[node].slopes[at] = result.slopes[at];
      }
  return node;
}

void Evaluator::backward(const std::vector<std::pair<int, double>> &seeds) {
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

bool weighs(Evaluator &evaluator, const ast::KeySet &set) {
  if (!set.weight) return true;
  if (evaluator.value(set.weight) <= 0) return false;
  return std::ranges::all_of(factorsOf(set.weight),
                             [&](const ast::ExprPtr &factor) { return evaluator.value(factor) != 0; });
}

}  // namespace weft::reference
