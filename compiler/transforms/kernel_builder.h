// What attention kernels in the `tile` dialect are built from: tiles and rows loaded and stored, loops, products, and
// copies of the variant's pairwise programs with their dots bound to elements of tiles.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "compiler/transforms/build_kernels.h"
#include "compiler/transforms/scalar_builder.h"
#include "compiler/transforms/signature.h"
#include "llvm/ADT/STLFunctionalExtras.h"

namespace weft {

/// A dot of the pairwise program: query-side input, key-side input.
using DotPair = std::pair<std::string, std::string>;

/// A tile of queries of a head.
struct QueryTile {
  mlir::Value b, h, index;
};
/// A tile of keys, and whether each of its pairs with the tile of queries is kept and in bounds (null: not known).
struct KeyTile {
  mlir::Value index, full;
};

/// What the backward programs of a tile of queries read: tiles by input, and the normaliser's rows.
struct QuerySide {
  std::map<std::string, mlir::Value> tiles;
  std::vector<std::string> names;  ///< of `rows`
  std::vector<mlir::Value> rows;
};

class KernelBuilder {
 public:
  using Value = mlir::Value;
  using Values = std::vector<Value>;
  using Named = llvm::StringMap<Value>;
  using Bindings = std::map<DotPair, Value>;
  /// A pair of a tile, and its elements of the tile and row operands.
  struct PairArgs {
    Value i, j;
    mlir::ValueRange tiles, rows;
  };

  KernelBuilder(mlir::ModuleOp module, const KernelShape &shape);

  mlir::ModuleOp module;
  KernelShape shape;
  mlir::OpBuilder builder;
  ScalarBuilder s;
  std::vector<KeySetDescription> sets;
  const KeySetDescription *set;           ///< whose keys the code at hand goes through
  std::map<std::string, Value> keyTiles;  ///< of the innermost kept pair, by input

  /// A program of the set at hand.
  dialect::PairwiseOp program(const char *name) {
    return module.lookupSymbol<dialect::PairwiseOp>(ofKeys(name, set->dim));
  }
  /// The sink has no keys.
  dialect::PairwiseOp sink(const char *name) { return module.lookupSymbol<dialect::PairwiseOp>(name); }

  /// One set of keys after another shares the normaliser.
  void eachSet(llvm::function_ref<void()> body);
  /// Starts a kernel of the keys at hand.
  void begin(const std::string &name, tile::Grid grid);
  /// A coordinate of the kernel's program.
  Value arg(unsigned at) { return entry->getArgument(at); }

  mlir::Type tileType(llvm::ArrayRef<int64_t> sizes) {
    return mlir::RankedTensorType::get(sizes, dialect::realType(builder.getContext()));
  }
  int64_t columns(llvm::StringRef name);
  /// To the type of the kernel's floats.
  double rounded(double value) const;
  /// Of an expression of constants and sizes of dims (ScalarBuilder::uniformFactor), where the kernel is built for
  /// these sizes: the float that it is.
  std::optional<double> knownValue(Value factor) const;
  Value fill(double value, llvm::ArrayRef<int64_t> sizes, tile::Side side = tile::Side::Query);
  Value fillRows(double value) { return fill(value, {shape.tileQ}); }
  Value load(const std::string &name, Value b, Value h, Value index, tile::Side side);
  Value loadRows(const std::string &name, const QueryTile &at, float fillValue);
  void store(Value value, const std::string &name, Value b, Value h, Value index);
  void storeRows(Value value, const std::string &name, const QueryTile &at);
  Value dot(tile::DotForm form, Value lhs, Value rhs, Value acc, bool blocked = false);
  Value scale(Value tile, double factor);
  Value scaleRows(Value tile, Value factors);

  /// body(index, full, carried) gives the carried values of the next turn; `full` is null but over kept tiles.
  Values loop(tile::Range over, Value b, Value h, Value start, mlir::ValueRange inits,
              llvm::function_ref<Values(Value index, Value full, mlir::ValueRange carried)> body);
  /// `body` gives the tiles' elements, then the values to reduce.
  Values pairwise(const QueryTile &at, const KeyTile &keys, mlir::ValueRange tiles, mlir::ValueRange rows,
                  llvm::ArrayRef<tile::Reduction> reductions, llvm::function_ref<Values(const PairArgs &)> body,
                  bool parts = false);
  /// `body` gets the query's index, then its rows, and gives `count` values.
  Values rowwise(const QueryTile &at, mlir::ValueRange rows, size_t count,
                 llvm::function_ref<Values(mlir::ValueRange)> body);
  Value addedRows(const QueryTile &at, Value x, Value y);

  static std::vector<DotPair> dotsOf(dialect::PairwiseOp source);
  void loadQueries(llvm::ArrayRef<DotPair> pairs, const QueryTile &at, std::map<std::string, Value> &tiles);
  /// The query tiles of @forward, of all sets of keys.
  std::map<std::string, Value> forwardQueries(const QueryTile &at);
  /// A tile of each dot of `source`.
  Values dotTiles(dialect::PairwiseOp source, const std::map<std::string, Value> &queries, const QueryTile &at,
                  Value keys);
  static Bindings bindTiles(dialect::PairwiseOp source, mlir::ValueRange elements);
  /// Copies a pairwise program here, with its dots and rows bound; gives its named results. Of its sums it takes those
  /// of inputs whose dependence is in `accumulate`; cotangents of dots go to `cotangents`.
  Named clone(dialect::PairwiseOp source, const QueryTile &at, Value i, Value j, const Bindings &bindings,
              const std::map<std::string, Value> &rows = {}, llvm::ArrayRef<dialect::Dependence> accumulate = {},
              Bindings *cotangents = nullptr);

  static bool hasFactor(dialect::PairwiseOp source) {
    return hasResult(source, "gate") || hasResult(source, "dropout");
  }
  /// The pairs with a part in the result: the mask's whose weight is not 0.
  static Value counting(Named &named);
  /// gate times dropout, or null where the variant has neither.
  Value outputFactor(Named &named);

 private:
  std::vector<InputDescription> inputs;
  std::map<std::string, dialect::Dependence> dependences;
  mlir::Block *entry = nullptr;
};

}  // namespace weft
