// Attributes of the `cpu` dialect.
#ifndef CPU_ATTRIBUTES_TD
#define CPU_ATTRIBUTES_TD

include "compiler/dialect/CpuDialect.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

class CpuEnum<string name, string summary, list<I32EnumAttrCase> cases> : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::weft::cpu";
}

def Cpu_ProductKind : CpuEnum<"ProductKind", "what multiplies tiles", [
  I32EnumAttrCase<"Fma", 0, "fma">,  // f32 in vector registers, one side broadcast from memory
  I32EnumAttrCase<"Amx", 1, "amx">,  // bf16 in AMX tiles
  I32EnumAttrCase<"Pairs", 2, "pairs">,  // pairs of bf16 in vector registers, one side broadcast from memory
  I32EnumAttrCase<"ByRow", 3, "by_row">  // f32, a query with one key after another, whose rows fill the lanes
]>;

// Of a tile with rows r and columns c; sizes are those of its type.
def Cpu_Layout : CpuEnum<"Layout", "how a tile lies in memory", [
  I32EnumAttrCase<"Strided", 0, "strided">,          // row after row, as far apart as the code finds: in a tensor
  I32EnumAttrCase<"Rows", 1, "rows">,                // [r][c]
  I32EnumAttrCase<"Columns", 2, "columns">,          // [c][r]: queries fill the lanes of a register
  I32EnumAttrCase<"RowPairs", 3, "row_pairs">,       // [r / 2][c][2]
  I32EnumAttrCase<"ColumnPairs", 4, "column_pairs">  // [c / 2][r][2]
]> {
  let genSpecializedAttr = 0;
}
def Cpu_LayoutAttr : EnumAttr<CpuDialect, Cpu_Layout, "layout"> {
  let assemblyFormat = "`<` $value `>`";
}

#endif
