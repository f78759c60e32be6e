// Reads the signature a module describes in its `weft.inputs` attribute.
#pragma once

#include <string>
#include <vector>

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
  /// How many of the leading dims are B, H or G.
  size_t leading() const {
    size_t count = 0;
    while (count < dims.size() &&
           (dims[count] == "B" || dims[count] == "H" || dims[count] == "G"))
      ++count;
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

}  // namespace weft
