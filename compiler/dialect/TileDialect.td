// The `tile` dialect: kernels over tiles, for any target.
#ifndef TILE_DIALECT_TD
#define TILE_DIALECT_TD

include "mlir/IR/OpBase.td"

def TileDialect : Dialect {
  let name = "tile";
  let cppNamespace = "::weft::tile";
  let summary = "Attention kernels over tiles";
  let useDefaultAttributePrinterParser = 1;
  let description = [{
    Tiles are `tensor<rows x columns x f32>` values, row values `tensor<rows x f32>`. A tile of
    logits is [query, key]. How a tile lives (registers, shared memory, packed, transposed) is each
    target's business; element types of inputs appear only in loads and stores.
  }];
}

class TileOp<string mnemonic, list<Trait> traits = []> : Op<TileDialect, mnemonic, traits>;

#endif
