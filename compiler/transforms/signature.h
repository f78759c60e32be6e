// Reads the signature a module describes in its `weft.inputs` attribute.
#pragma once

#include <string>
#include <vector>

#include "compiler/dialect/dialects.h"
#include "compiler/dims.h"
#include "compiler/kernel_image.h"
#include "llvm/ADT/STLExtras.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinOps.h"

namespace weft {

struct InputDescription {
  std::string name;
  std::vector<std::string> dims;
  std::string element;  ///< float, int or bool

  bool has(llvm::StringRef dim) const {
    for (const std::string &own : dims)
      if (dim == own) return true;
    return false;
  }
  /// How many dims are leading ones.
  size_t leading() const {
    size_t count = 0;
    while (count < dims.size() && isLeadingDim(dims[count])) ++count;
    return count;
  }
};

inline std::vector<InputDescription> describedInputs(mlir::ModuleOp module) {
  std::vector<InputDescription> inputs;
  for (mlir::Attribute attr : module->getAttrOfType<mlir::ArrayAttr>("weft.inputs")) {
    auto dict = mlir::cast<mlir::DictionaryAttr>(attr);
    InputDescription input;
    input.name = mlir::cast<mlir::StringAttr>(dict.get("name")).str();
    for (mlir::Attribute dim : mlir::cast<mlir::ArrayAttr>(dict.get("dims")))
      input.dims.push_back(mlir::cast<mlir::StringAttr>(dim).str());
    input.element = mlir::cast<mlir::StringAttr>(dict.get("element")).str();
    inputs.push_back(std::move(input));
  }
  return inputs;
}

/// Rows of an input pooled over the tiles of one side, for a selection.
struct PooledDescription {
  std::string pool, input;
  int tile;
};
inline std::vector<PooledDescription> describedPools(mlir::ModuleOp module) {
  std::vector<PooledDescription> pools;
  auto list = module->getAttrOfType<mlir::ArrayAttr>("weft.pools");
  if (!list) return pools;
  for (mlir::Attribute attr : list) {
    auto dict = mlir::cast<mlir::DictionaryAttr>(attr);
    pools.push_back({mlir::cast<mlir::StringAttr>(dict.get("pool")).str(),
                     mlir::cast<mlir::StringAttr>(dict.get("input")).str(),
                     static_cast<int>(mlir::cast<mlir::IntegerAttr>(dict.get("tile")).getInt())});
  }
  return pools;
}

/// Keys named by lists of positions; `input` is empty where all keys are looked at.
struct KeyListDescription {
  std::string input, dim = "S";  ///< the dim that counts a row's keys
  int tile = 0;                  ///< queries that share a list; 0: all
  tile::Rows rows = tile::Rows::Queries;
  std::vector<std::string> dims;  ///< of the lists
  std::string counts;             ///< the buffer that says how much of each list is used; empty: all
  explicit operator bool() const { return !input.empty(); }
};
inline KeyListDescription describedKeys(mlir::ModuleOp module) {
  KeyListDescription keys;
  if (auto dict = module->getAttrOfType<mlir::DictionaryAttr>("weft.keys")) {
    keys.input = mlir::cast<mlir::StringAttr>(dict.get("input")).str();
    keys.dim = mlir::cast<mlir::StringAttr>(dict.get("dim")).str();
    keys.tile = static_cast<int>(mlir::cast<mlir::IntegerAttr>(dict.get("tile")).getInt());
    if (auto rows = dict.getAs<mlir::IntegerAttr>("rows")) keys.rows = static_cast<tile::Rows>(rows.getInt());
    if (keys.input == selectedKeys) {
      keys.dims = {"B", "H", selectedRows, "S"};
      keys.counts = selectedCounts;
    }
    for (const InputDescription &input : describedInputs(module))
      if (input.name == keys.input) keys.dims = input.dims;
  }
  return keys;
}

/// What the rows of a query-side tile are.
inline tile::Rows describedRows(mlir::ModuleOp module) { return describedKeys(module).rows; }

/// Keys that share the normaliser: the dim that counts them and the input that holds their values. The first set is
/// that of v.
struct KeySetDescription {
  std::string dim, values;
};
inline std::vector<KeySetDescription> describedSets(mlir::ModuleOp module) {
  std::vector<KeySetDescription> sets{{"S", "v"}};
  auto others = module->getAttrOfType<mlir::ArrayAttr>("weft.also");
  if (!others) return sets;
  for (mlir::Attribute attr : others) {
    auto dict = mlir::cast<mlir::DictionaryAttr>(attr);
    sets.push_back(
        {mlir::cast<mlir::StringAttr>(dict.get("dim")).str(), mlir::cast<mlir::StringAttr>(dict.get("values")).str()});
  }
  return sets;
}

/// True where a pairwise program yields `name`.
inline bool hasResult(dialect::PairwiseOp program, llvm::StringRef name) {
  auto yield = mlir::cast<dialect::YieldOp>(program.getBody().front().getTerminator());
  return llvm::is_contained(yield.getNames(), mlir::StringAttr::get(program.getContext(), name));
}

/// What `program` yields under a name, or null.
inline mlir::Value resultOf(dialect::PairwiseOp program, llvm::StringRef name) {
  auto yield = mlir::cast<dialect::YieldOp>(program.getBody().front().getTerminator());
  for (auto [attr, value] : llvm::zip(yield.getNames(), yield.getValues()))
    if (mlir::cast<mlir::StringAttr>(attr).getValue() == name) return value;
  return {};
}

/// True where some pair has a weight.
inline bool isWeighted(mlir::ModuleOp module) {
  return llvm::any_of(describedSets(module), [&](const KeySetDescription &set) {
    return hasResult(module.lookupSymbol<dialect::PairwiseOp>(ofKeys("forward", set.dim)), "weight");
  });
}

/// Inputs whose rows have the call's element type: v, operands of dots, what is pooled.
inline std::vector<std::string> rowInputs(mlir::ModuleOp module) {
  std::vector<std::string> names;
  auto add = [&](llvm::StringRef name) {
    if (name != "do" && !llvm::is_contained(names, name)) names.push_back(name.str());
  };
  for (const KeySetDescription &set : describedSets(module)) add(set.values);
  module.walk([&](dialect::DotOp op) {
    add(op.getQuery());
    add(op.getKey());
  });
  for (const PooledDescription &pool : describedPools(module)) add(pool.input);
  return names;
}

}  // namespace weft
