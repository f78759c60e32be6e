// Functions that a variant defines: `def near(x, width) = abs(x) < width`. A call stands for the expression, with the
// arguments in place of the parameters.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "compiler/language/ast.h"

namespace weft {

struct Definition {
  std::vector<std::string> parameters;
  ast::ExprPtr body;  ///< its names are not resolved
};
using Definitions = std::map<std::string, Definition>;

/// The most expressions that the definitions of one variant unfold to.
inline constexpr size_t mostUnfolded = 100000;

/// A parameter that is read at an index, or pooled, stands for an input: the argument that is none.
struct NoInput {
  ast::ExprPtr argument;
};

/// The body of `definition` with `args` for its parameters. Adds the expressions it makes to `unfolded`, and gives null
/// where these become more than `mostUnfolded`. Throws NoInput.
ast::ExprPtr unfold(const Definition &definition, const std::vector<ast::ExprPtr> &args, size_t &unfolded);

/// How deep an expression is nested; a chain a + b + c + ... is not deep.
int depthOf(const ast::Expr &expr);

}  // namespace weft
