// The functions of the language in double precision: values and derivatives.
#pragma once

#include "compiler/language/ast.h"

namespace weft::reference {

struct Applied {
  double value = 0;
  double slopes[3] = {0, 0, 0};  ///< derivatives by each argument; at a kink PyTorch's
};

/// `type`: of the result. Ints have 32 bits and saturate, true is 1. `single`: floats are rounded to f32.
Applied apply(ast::Function function, const double (&x)[3], ast::Type type, bool single);

}  // namespace weft::reference
