// Attributes of the `tile` dialect.
#ifndef TILE_ATTRIBUTES_TD
#define TILE_ATTRIBUTES_TD

include "compiler/dialect/TileDialect.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

class TileEnum<string name, string summary, list<I32EnumAttrCase> cases> : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::weft::tile";
}
class Case<string symbol, int value, string text> : I32EnumAttrCase<symbol, value, text>;

def Tile_Grid : TileEnum<"Grid", "what one program of a kernel is", [
  Case<"Query", 0, "query">, Case<"Key", 1, "key">, Case<"HeadKey", 2, "head_key">, Case<"Group", 3, "group">,
  Case<"Head", 4, "head">
]>;
def Tile_Rows : TileEnum<"Rows", "what the rows of a query-side tile are", [
  Case<"Queries", 0, "queries">,  // of a head
  Case<"Heads", 1, "heads">,      // of a group, at one query
  Case<"Head", 2, "head">         // one head at one query: a tile has one row
]>;
def Tile_Side : TileEnum<"Side", "which rows a tile belongs to", [Case<"Query", 0, "query">, Case<"Key", 1, "key">]>;
def Tile_Range : TileEnum<"Range", "what a loop runs over", [
  Case<"Heads", 0, "heads">, Case<"Queries", 1, "queries">, Case<"Keys", 2, "keys">,
  Case<"KeysDescending", 3, "keys_descending">, Case<"KeptQueries", 4, "kept_queries">, Case<"Turns", 5, "turns">,
  Case<"Positions", 6, "positions">
]>;
def Tile_DotForm : TileEnum<"DotForm", "which axes of a product meet", [
  Case<"NT", 0, "nt">, Case<"NN", 1, "nn">, Case<"TN", 2, "tn">
]>;
def Tile_ScanSide : TileEnum<"ScanSide", "which keys a running sum is over", [
  Case<"After", 0, "after">, Case<"Before", 1, "before">
]>;
def Tile_Reduction : TileEnum<"Reduction", "how the numbers of a row become one", [
  Case<"Add", 0, "add">, Case<"Max", 1, "max">
]>;
def Tile_Pooling : TileEnum<"Pooling", "how rows become one", [
  Case<"Mean", 0, "mean">, Case<"Max", 1, "max">, Case<"Min", 2, "min">
]>;
def Tile_Order : TileEnum<"Order", "how neighbouring programs differ", [
  Case<"Tiles", 0, "tiles_inner">, Case<"Heads", 1, "heads_inner">
]>;
def Tile_TensorRole : TileEnum<"TensorRole", "what a tensor is to a kernel", [
  Case<"Operand", 0, "operand">,      // rows of queries or keys
  Case<"Parameter", 1, "parameter">,  // another input
  Case<"Result", 2, "result">,
  Case<"Gradient", 3, "gradient">,
  Case<"Row", 4, "row">,              // a number of each query
  Case<"Plan", 5, "plan">,            // which tiles or keys are kept
  Case<"Scratch", 6, "scratch">,
  Case<"Control", 7, "control">       // seed, status, table of pages
]>;
def Tile_Independent : TileEnum<"Independent", "how the values meet that independent turns carry", [
  Case<"Nothing", 0, "nothing">, Case<"Add", 1, "add">, Case<"Max", 2, "max">, Case<"Append", 3, "append">
]> {
  let genSpecializedAttr = 0;
}
def Tile_IndependentAttr : EnumAttr<TileDialect, Tile_Independent, "independent"> {
  let assemblyFormat = "`<` $value `>`";
}

def Tile_ListedKeys : AttrDef<TileDialect, "ListedKeys"> {
  let summary = "keys named by lists of positions";
  let description = "The tensor of the lists, the dim that counts a list's keys, and how many queries share a list (0: all).";
  let mnemonic = "listed_keys";
  let parameters = (ins "::mlir::FlatSymbolRefAttr":$list, "::mlir::StringAttr":$dim, "int64_t":$tile);
  let assemblyFormat = "`<` $list `,` $dim `,` $tile `>`";
}

#endif
