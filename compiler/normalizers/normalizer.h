// A normaliser: what a row's scores make of its values. Each is a file of this folder that holds its facts (what it
// takes and keeps), the forward kernel of a tile of queries, and the derivative of a pair. KernelBuilder has what they
// share.
//
// Before: weft.pairwise @forward. After: the body of tile.kernel @forward; what @backward says of p.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "compiler/normalizers/facts.h"
#include "compiler/transforms/kernel_builder.h"

namespace weft {

/// A pair of the backward program, as a normaliser sees it.
struct PairTerms {
  ScalarBuilder &s;
  mlir::Value score, weight;  ///< the weight is 1 where the pairs of this set have none
  mlir::Value dp;             ///< gate dropout (do . v): the cotangent of p, were the other pairs of the row fixed
  bool weighted;              ///< some pair of the variant has a weight
  std::function<mlir::Value(const char *)> row;  ///< a RowState of the normaliser
};

/// What the backward program goes on from. p = weight shift e, and each may be too large or small for the others.
struct PairDerivative {
  mlir::Value e;      ///< the probability without its weight, of kept pairs
  mlir::Value p;      ///< null: weight e
  mlir::Value slope;  ///< the cotangent of the score
  mlir::Value dp;     ///< that of p in the row
  mlir::Value shift;  ///< null: 1
};

/// What the backward programs of a tile of pairs read besides their dots.
struct PairOperands {
  std::vector<mlir::Value> tiles, rows;
  /// Each RowState by its name, from the elements of `tiles` and `rows`.
  std::function<std::map<std::string, mlir::Value>(mlir::ValueRange tiles, mlir::ValueRange rows)> named;
};

/// The sums that a pass over a row's keys takes along.
struct KeySums {
  std::vector<mlir::Value> whole;    ///< over all keys, known before
  std::vector<mlir::Value> carried;  ///< over the keys before
};

class Normalizer {
 public:
  virtual ~Normalizer() = default;

  /// The kernel of the queries `at`: stores o and keptRows().
  virtual void forward(KernelBuilder &k, const QueryTile &at) const = 0;
  virtual PairDerivative derivative(const PairTerms &pair) const = 0;

  /// With facts.delta: the kernel that stores the rows of that source.
  virtual void delta(KernelBuilder &k, const QueryTile &at) const;
  /// With facts.sink: the cotangent of a row's sink `c`.
  virtual mlir::Value sinkCotangent(const PairTerms &row, mlir::Value c) const;

  /// Rows of source Keys: before the keys of one set, and at each tile of them, whose dots of @backward are `tiles`.
  virtual KeySums beforeKeys(KernelBuilder &k, const QueryTile &at, QuerySide &query) const;
  virtual PairOperands atKeys(KernelBuilder &k, const QueryTile &at, const KeyTile &keys, const QuerySide &query,
                              const std::vector<mlir::Value> &tiles, KeySums &sums) const;
};

const NormalizerFacts &factsOf(mlir::ModuleOp module);
const Normalizer &normalizerOf(mlir::ModuleOp module);
/// Those of its rows that kernels load: of source Forward and Delta.
std::vector<RowState> loadedRows(mlir::ModuleOp module);
/// The rows that `query` has loaded, as operands.
PairOperands loadedOperands(const QuerySide &query);

}  // namespace weft
