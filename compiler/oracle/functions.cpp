#include "compiler/oracle/functions.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace weft::reference {

using ast::Function;

namespace {

/// Ints have 32 bits and saturate; floor, ceil and round go to the last f32 below 2^31, and of NaN give 0.
double asInt(double y, Function function) {
  const bool rounding = function == Function::Floor || function == Function::Ceil || function == Function::Round;
  if (std::isnan(y)) return 0;
  return rounding ? std::clamp(y, -2147483520.0, 2147483520.0) : std::clamp(y, -2147483648.0, 2147483647.0);
}

/// Denormal numbers are 0 in kernels.
double asSingle(double y) {
  const float rounded = static_cast<float>(y);
  return std::fabs(rounded) < std::numeric_limits<float>::min() ? 0 : rounded;
}

double logistic(double v) { return 1 / (1 + std::exp(-v)); }

/// Sums, products, quotients and remainders.
void arithmetic(Function function, const double (&x)[3], bool whole, bool single, double &y, double (&d)[3]) {
  switch (function) {
    case Function::Neg:
      y = -x[0];
      d[0] = -1;
      break;
    case Function::Add:
      y = x[0] + x[1];
      d[0] = d[1] = 1;
      break;
    case Function::Sub:
      y = x[0] - x[1];
      d[0] = 1;
      d[1] = -1;
      break;
    case Function::Mul:
      y = x[0] * x[1];
      d[0] = x[1];
      d[1] = x[0];
      break;
    case Function::Div:
      y = x[0] / x[1];
      d[0] = 1 / x[1];
      d[1] = -x[0] / (x[1] * x[1]);
      break;
    case Function::Mod:
      if (whole && x[1] == 0) {
        y = 0;
        break;
      }
      if (single && !whole) {
        y = asSingle(std::fma(-x[1], std::floor(asSingle(x[0] / x[1])), x[0]));
        if (asSingle(y * x[1]) < 0) y += x[1];
        break;
      }
      y = x[0] - x[1] * std::floor(x[0] / x[1]);
      d[0] = 1;
      d[1] = -std::floor(x[0] / x[1]);
      break;
    case Function::Pow:
      y = std::pow(x[0], x[1]);
      d[0] = x[1] * std::pow(x[0], x[1] - 1);
      d[1] = x[0] == 0 ? 0 : y * std::log(x[0]);
      break;
    default: break;
  }
}

/// Of ints, exact in double: a quotient rounded down, bits.
void ofInts(Function function, const double (&x)[3], double &y) {
  const auto a = static_cast<int64_t>(x[0]), b = static_cast<int64_t>(x[1]);
  const int64_t by = std::clamp<int64_t>(b, 0, 31);
  switch (function) {
    case Function::FloorDiv: y = b == 0 ? 0 : std::floor(x[0] / x[1]); break;
    case Function::BitAnd: y = static_cast<double>(a & b); break;
    case Function::BitOr: y = static_cast<double>(a | b); break;
    case Function::BitXor: y = static_cast<double>(a ^ b); break;
    case Function::ShiftLeft: y = static_cast<double>(a * (int64_t{1} << by)); break;
    case Function::ShiftRight: y = static_cast<double>(a >> by); break;
    default: break;
  }
}

/// One of the arguments, or the distance to one; at a kink the slope is that of PyTorch.
void choice(Function function, const double (&x)[3], double &y, double (&d)[3]) {
  switch (function) {
    case Function::Min:
      y = std::min(x[0], x[1]);
      d[0] = x[0] < x[1] ? 1 : x[0] == x[1] ? 0.5 : 0;
      d[1] = 1 - d[0];
      break;
    case Function::Max:
      y = std::max(x[0], x[1]);
      d[0] = x[0] > x[1] ? 1 : x[0] == x[1] ? 0.5 : 0;
      d[1] = 1 - d[0];
      break;
    case Function::Clamp:
      y = std::min(std::max(x[0], x[1]), x[2]);
      d[0] = x[0] >= x[1] && x[0] <= x[2];
      d[1] = x[0] < x[1] && x[1] < x[2];
      d[2] = x[0] > x[2] || x[1] > x[2];
      break;
    case Function::Abs:
      y = std::fabs(x[0]);
      d[0] = (x[0] > 0) - (x[0] < 0);
      break;
    case Function::Relu:
      y = std::max(x[0], 0.0);
      d[0] = x[0] > 0;
      break;
    case Function::Select:
      y = x[0] != 0 ? x[1] : x[2];
      d[1] = x[0] != 0;
      d[2] = x[0] == 0;
      break;
    default: break;
  }
}

/// Of one number.
void smooth(Function function, const double (&x)[3], double &y, double (&d)[3]) {
  switch (function) {
    case Function::Exp:
      y = std::exp(x[0]);
      d[0] = y;
      break;
    case Function::Exp2:
      y = std::exp2(x[0]);
      d[0] = y * M_LN2;
      break;
    case Function::Log:
      y = std::log(x[0]);
      d[0] = 1 / x[0];
      break;
    case Function::Log2:
      y = std::log2(x[0]);
      d[0] = M_LOG2E / x[0];
      break;
    case Function::Erf:
      y = std::erf(x[0]);
      d[0] = M_2_SQRTPI * std::exp(-x[0] * x[0]);
      break;
    case Function::Log1p:
      y = std::log1p(x[0]);
      d[0] = 1 / (1 + x[0]);
      break;
    case Function::Sqrt:
      y = std::sqrt(x[0]);
      d[0] = 0.5 / y;
      break;
    case Function::Rsqrt:
      y = 1 / std::sqrt(x[0]);
      d[0] = -0.5 * y / x[0];
      break;
    case Function::Sin:
      y = std::sin(x[0]);
      d[0] = std::cos(x[0]);
      break;
    case Function::Cos:
      y = std::cos(x[0]);
      d[0] = -std::sin(x[0]);
      break;
    case Function::Tanh:
      y = std::tanh(x[0]);
      d[0] = 1 - y * y;
      break;
    case Function::Sigmoid:
      y = logistic(x[0]);
      d[0] = y * (1 - y);
      break;
    case Function::Softplus:
      y = std::max(x[0], 0.0) + std::log1p(std::exp(-std::fabs(x[0])));
      d[0] = logistic(x[0]);
      break;
    default: break;
  }
}

/// Flat between its steps, or straight between its kinks.
void steps(Function function, const double (&x)[3], bool single, double &y, double (&d)[3]) {
  switch (function) {
    case Function::Floor: y = std::floor(x[0]); break;
    case Function::Ceil: y = std::ceil(x[0]); break;
    case Function::Round: y = std::nearbyint(x[0]); break;
    case Function::ToFloat: y = x[0]; break;
    case Function::Triangle: {
      const double f = single ? asSingle(x[0] - std::floor(x[0])) : x[0] - std::floor(x[0]);
      y = 4 * std::fabs(f - 0.5) - 1;
      d[0] = f < 0.5 ? -4 : f > 0.5 ? 4 : 0;
      break;
    }
    default: break;
  }
}

/// True is 1.
void logic(Function function, const double (&x)[3], double &y) {
  switch (function) {
    case Function::Lt: y = x[0] < x[1]; break;
    case Function::Le: y = x[0] <= x[1]; break;
    case Function::Gt: y = x[0] > x[1]; break;
    case Function::Ge: y = x[0] >= x[1]; break;
    case Function::Eq: y = x[0] == x[1]; break;
    case Function::Ne: y = x[0] != x[1]; break;
    case Function::And: y = x[0] != 0 && x[1] != 0; break;
    case Function::Or: y = x[0] != 0 || x[1] != 0; break;
    case Function::Not: y = x[0] == 0; break;
    default: break;
  }
}

}  // namespace

Applied apply(Function function, const double (&x)[3], ast::Type type, bool single) {
  const bool whole = type == ast::Type::Int;
  Applied result;
  double &y = result.value;
  double (&d)[3] = result.slopes;
  switch (function) {
    case Function::Neg:
    case Function::Add:
    case Function::Sub:
    case Function::Mul:
    case Function::Div:
    case Function::Mod:
    case Function::Pow: arithmetic(function, x, whole, single, y, d); break;
    case Function::FloorDiv:
    case Function::BitAnd:
    case Function::BitOr:
    case Function::BitXor:
    case Function::ShiftLeft:
    case Function::ShiftRight: ofInts(function, x, y); break;
    case Function::Min:
    case Function::Max:
    case Function::Clamp:
    case Function::Abs:
    case Function::Relu:
    case Function::Select: choice(function, x, y, d); break;
    case Function::Exp:
    case Function::Exp2:
    case Function::Log:
    case Function::Log2:
    case Function::Erf:
    case Function::Log1p:
    case Function::Sqrt:
    case Function::Rsqrt:
    case Function::Sin:
    case Function::Cos:
    case Function::Tanh:
    case Function::Sigmoid:
    case Function::Softplus: smooth(function, x, y, d); break;
    case Function::Floor:
    case Function::Ceil:
    case Function::Round:
    case Function::ToFloat:
    case Function::Triangle: steps(function, x, single, y, d); break;
    case Function::Lt:
    case Function::Le:
    case Function::Gt:
    case Function::Ge:
    case Function::Eq:
    case Function::Ne:
    case Function::And:
    case Function::Or:
    case Function::Not: logic(function, x, y); break;
  }
  if (whole) y = asInt(y, function);
  if (single && type == ast::Type::Float) y = asSingle(y);
  return result;
}

}  // namespace weft::reference
