// The normalisers of a row, as defined: in double precision, over all of the row's pairs at once.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "compiler/language/ast.h"
#include "compiler/normalizers/facts.h"

namespace weft::reference {

/// A key of a query's row.
struct Pair {
  const ast::KeySet *set;
  int64_t j;
  bool mask = true;               ///< the wheres hold, and a selection keeps it
  bool counts = false;            ///< so, and its weight is not 0 or less
  double s = 0, w = 1, g = 1;     ///< score, weight and gate
  double e = 0;                   ///< probability without the weight: p = w e
  double dov = 0;                 ///< do . v
  double dp = 0, ds = 0, dw = 0;  ///< cotangents of p, were the row's other pairs fixed, of the score and of the weight

  double p() const { return counts ? w * e : 0; }
};

struct Row {
  std::vector<Pair> pairs;
  std::optional<double> sink = {};
  double lse = 0;    ///< where the normaliser has one
  double dsink = 0;  ///< cotangent of the sink
};

struct RowNormalizer {
  const NormalizerFacts *facts;
  void (*forward)(Row &);   ///< sets e of pairs that count, lse
  void (*backward)(Row &);  ///< sets ds, dw, dsink from e and dp
};

const RowNormalizer &normalizerOf(const NormalizerFacts &facts);

}  // namespace weft::reference
