// The table of normalisers.
#include <array>

#include "compiler/internal_error.h"
#include "compiler/normalizers/normalizer.h"
#include "mlir/IR/BuiltinAttributes.h"

namespace weft {

#define WEFT_NORMALIZER(id)               \
  extern const NormalizerFacts id##Facts; \
  const Normalizer &id##Normalizer();
#include "compiler/normalizers/normalizers.def"
#undef WEFT_NORMALIZER

std::span<const NormalizerFacts *const> allNormalizers() {
  static constexpr std::array all = {
#define WEFT_NORMALIZER(id) &id##Facts,
#include "compiler/normalizers/normalizers.def"
#undef WEFT_NORMALIZER
  };
  return all;
}

const NormalizerFacts *normalizerNamed(std::string_view name) {
  for (const NormalizerFacts *facts : allNormalizers())
    if (name == facts->name) return facts;
  return nullptr;
}

std::vector<std::string> keptRows(const NormalizerFacts &facts, bool weighted) {
  std::vector<std::string> names{"lse"};
  for (const RowState &row : facts.rows)
    if (row.source == RowState::Source::Forward && (weighted || !row.ofWeights)) names.push_back(row.tensor());
  return names;
}

const NormalizerFacts &factsOf(mlir::ModuleOp module) {
  const llvm::StringRef name = module->getAttrOfType<mlir::StringAttr>("weft.normalize").getValue();
  const NormalizerFacts *facts = normalizerNamed({name.data(), name.size()});
  internalCheck(facts != nullptr, "normalizers", "unknown normaliser " + name.str());
  return *facts;
}

const Normalizer &normalizerOf(mlir::ModuleOp module) {
  const NormalizerFacts &facts = factsOf(module);
#define WEFT_NORMALIZER(id) \
  if (&facts == &id##Facts) return id##Normalizer();
#include "compiler/normalizers/normalizers.def"
#undef WEFT_NORMALIZER
  throw InternalError("normalizers", std::string("no kernels for ") + facts.name);
}

std::vector<RowState> loadedRows(mlir::ModuleOp module) {
  std::vector<RowState> rows;
  for (const RowState &row : factsOf(module).rows)
    if (row.source != RowState::Source::Keys && (isWeighted(module) || !row.ofWeights)) rows.push_back(row);
  return rows;
}

}  // namespace weft
