// What a normaliser does that says nothing else.
#include "compiler/normalizers/normalizer.h"

#include "compiler/internal_error.h"
#include "llvm/ADT/STLExtras.h"

namespace weft {

void Normalizer::delta(KernelBuilder &, const QueryTile &) const {
  throw InternalError("normalizers", "no kernel backward_delta");
}

mlir::Value Normalizer::sinkCotangent(const PairTerms &, mlir::Value) const {
  throw InternalError("normalizers", "no sink");
}

KeySums Normalizer::beforeKeys(KernelBuilder &, const QueryTile &, QuerySide &) const { return {}; }

PairOperands Normalizer::atKeys(KernelBuilder &, const QueryTile &, const KeyTile &, const QuerySide &query,
                                const std::vector<mlir::Value> &, KeySums &) const {
  return loadedOperands(query);
}

PairOperands loadedOperands(const QuerySide &query) {
  return {{}, query.rows, [names = query.names](mlir::ValueRange, mlir::ValueRange rows) {
            std::map<std::string, mlir::Value> named;
            for (auto [name, value] : llvm::zip(names, rows)) named[name] = value;
            return named;
          }};
}

}  // namespace weft
