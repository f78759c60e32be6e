// Attributes of the `weft` dialect.
#ifndef WEFT_ATTRIBUTES_TD
#define WEFT_ATTRIBUTES_TD

include "compiler/dialect/WeftDialect.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

def Weft_Dependence : I32EnumAttr<"Dependence", "what an element of an input depends on besides b and h", [
  I32EnumAttrCase<"Head", 0, "head">,    // nothing
  I32EnumAttrCase<"Query", 1, "query">,  // i
  I32EnumAttrCase<"Key", 2, "key">,      // j
  I32EnumAttrCase<"Any", 3, "any">
]> {
  let cppNamespace = "::weft::dialect";
}

def Weft_Function : AttrDef<WeftDialect, "Function"> {
  let summary = "a function of the language, by its Id in compiler/language/functions.def";
  let mnemonic = "function";
  let parameters = (ins "::weft::ast::Function":$value);
  let hasCustomAssemblyFormat = 1;
}

#endif
