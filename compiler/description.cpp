#include "compiler/description.h"

#include "compiler/language/ast.h"

namespace weft {

VariantDescription describe(const Variant &variant) {
  const ast::Variant &tree = variant.tree();
  VariantDescription description;
  for (const ast::Constant &constant : tree.constants)
    description.constants.emplace_back(constant.name, constant.value);
  description.normalizer = tree.normalizer->name;
  description.dropout = tree.dropout.value_or(0);
  return description;
}

}  // namespace weft
