// What a variant's `select`s need besides their own expressions: each pooled tensor once.
#pragma once

#include "compiler/language/ast.h"

namespace weft::ast {

/// Rows of an input pooled tile by tile.
struct PooledInput {
  Pool pool;
  int input;  ///< position in Variant::inputs
  int tile;   ///< rows of a tile

  bool operator==(const PooledInput &) const = default;
};

/// All pooled inputs of all rounds, in the order of their first use.
std::vector<PooledInput> pooledInputs(const Variant &variant);

/// The number of different pairs of pooled rows that a round multiplies.
int pooledProducts(const Select &select);

/// True where a `dot` is part of the expression.
bool holdsDot(const Expr &expr);

}  // namespace weft::ast
